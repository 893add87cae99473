"""The machine's disk: the root file system with worker installed, as the README says."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from vm.guest import readme
from vm.host import cache, root, wheels

SIZE = "3G"  # sparse
_WHEELS = "opt/wheels"


@dataclass(frozen=True)
class Disk:
    """What a machine is started from."""

    image: Path
    kernel: Path
    initrd: Path


def disk(suite: str) -> Disk:
    """Return the disk with a suite for the tree as it is."""
    parts = [root.root(suite), wheels.dependencies(suite), wheels.product()]
    recipe = cache.key(Path(__file__).read_bytes(), readme.install(), *(p.name for p in parts))
    directory = cache.made(f"disk-{suite}", recipe, lambda place: _make(place, *parts))
    return Disk(directory / "image", directory / "vmlinuz", directory / "initrd")


def _make(directory: Path, base: Path, dependencies: Path, product: Path) -> None:
    inside = directory / "root"
    subprocess.run(["cp", "-a", "--reflink=auto", base, inside], check=True)
    for each in (dependencies, product / "now"):
        shutil.copytree(each, inside / _WHEELS, dirs_exist_ok=True)
    # Wheels in place of the clone: what builds them is not there, and no index.
    _run(inside, readme.install().replace("packages/worker-", "worker-"))
    _run(inside, "python3 -m venv /opt/tests")
    _run(inside, "/opt/tests/bin/pip install pytest pexpect worker-cli")
    shutil.rmtree(inside / _WHEELS)
    for name in ("vmlinuz", "initrd"):
        (found,) = (inside / "boot").glob(f"{name}*")
        shutil.copy(found, directory / name)
    image = directory / "image"
    with image.open("wb") as file:
        file.truncate(int(SIZE.removesuffix("G")) << 30)
    subprocess.run(["mkfs.ext4", "-q", "-d", inside, image], check=True)
    shutil.rmtree(inside)


def _run(inside: Path, line: str) -> None:
    """Run a shell line in the root file system, where pip has the wheels and no index."""
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": f"/{_WHEELS}",
        "PIP_QUIET": "1",
        "PIP_NO_CACHE_DIR": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
    }
    subprocess.run(["chroot", inside, "/bin/sh", "-ec", line], env=environment, check=True)
