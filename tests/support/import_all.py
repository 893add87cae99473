"""Import every module of the packages named on the command line; warnings are errors.

Run where a distribution is installed alone: a module that needs something the distribution
does not declare fails here, and not at a user's.
"""

import importlib
import pkgutil
import sys
import warnings
from collections.abc import Iterator


def module_names(package: str) -> Iterator[str]:
    """Yield the names of the package and of all that is in it."""
    root = importlib.import_module(package)
    yield package
    for found in pkgutil.walk_packages(root.__path__, f"{package}."):
        yield found.name


def main(packages: list[str]) -> int:
    """Import everything; return 1 when there was nothing to import."""
    warnings.simplefilter("error")
    count = 0
    for package in packages:
        for name in module_names(package):
            importlib.import_module(name)
            count += 1
    print(f"imported {count} modules of {', '.join(packages)}")
    return 0 if count else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
