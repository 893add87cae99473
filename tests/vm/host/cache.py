"""Things that take long to make, kept until something that went into them changes."""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


def directory() -> Path:
    """Return where things are kept: $WORKER_VM_CACHE, or a place in the user's cache."""
    given = os.environ.get("WORKER_VM_CACHE")
    place = Path(given) if given else Path("~/.cache").expanduser() / "worker-vm"
    place.mkdir(parents=True, exist_ok=True)
    return place


@contextmanager
def locked() -> Iterator[None]:
    """Keep everybody else out who would build or boot: one machine at a time is enough."""
    with (directory() / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def key(*inputs: str | bytes) -> str:
    """Return a short name for what is made of `inputs`."""
    digest = hashlib.sha256()
    for each in inputs:
        data = each.encode() if isinstance(each, str) else each
        digest.update(b"%d:" % len(data) + data)
    return digest.hexdigest()[:16]


def contents(files: Iterable[Path], base: Path) -> bytes:
    """Return names and contents of files in one piece, as an input of a key."""
    return b"".join(
        f"{each.relative_to(base)}\0".encode() + each.read_bytes() for each in sorted(files)
    )


def made(kind: str, name: str, make: Callable[[Path], None]) -> Path:
    """Return the directory `kind-name`, which `make` fills if it is not there yet.

    What is there is whole. Others of its kind are removed: they were made of older inputs.
    """
    path = directory() / f"{kind}-{name}"
    if not path.exists():
        for old in directory().glob(f"{kind}-*"):
            shutil.rmtree(old)
        unfinished = directory() / f"unfinished-{kind}"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        make(unfinished)
        unfinished.rename(path)
    return path
