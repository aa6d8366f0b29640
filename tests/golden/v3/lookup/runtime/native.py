"""The compiled kernel: where it is and how it is loaded. `build.py` compiles it.

The sources in `kernel/` travel with this package; the compiled module lies in a cache folder of
the user that is named after their checksum. So every copy of one version of this package shares
one build, no copy of an artifact is changed by it, and a read-only folder is no obstacle. A wheel
of the runtime has the compiled module beside the sources instead.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.machinery
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

KERNEL_FOLDER = Path(__file__).parent / "kernel"
MODULE_FILE = "_gatetable.abi3.so"


class NativeUnavailableError(ImportError):
    """The compiled kernel is not there, or cannot be loaded or built here."""


def hash_sources() -> str:
    """Return the sha256 over the kernel's sources, by name."""
    total = hashlib.sha256()
    for path in sorted(KERNEL_FOLDER.glob("*.[ch]")):
        data = path.read_bytes()
        total.update(f"{path.name} {len(data)} ".encode())
        total.update(data)
    return total.hexdigest()


def find_cache() -> Path:
    """Return the folder of this version's build: $GATETABLE_CACHE, or the user's cache."""
    home = Path(os.path.expanduser("~"))  # noqa: PTH111  (Path.home raises where there is none)
    if folder := os.environ.get("GATETABLE_CACHE"):
        root = Path(folder)
    elif sys.platform == "darwin":
        root = home / "Library" / "Caches" / "gatetable"
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "gatetable"
    return root / f"{hash_sources()[:16]}-{sys.platform}-{os.uname().machine}"


def find_extension() -> Path | None:
    """Return the compiled module's file, or None if there is none of these sources."""
    # Not Path.is_file, which raises where a folder on the way may not be read.
    beside = KERNEL_FOLDER / MODULE_FILE
    if os.path.isfile(beside):  # noqa: PTH113
        return beside  # without the checksum of the sources that names the cache
    cached = find_cache() / MODULE_FILE
    return cached if os.path.isfile(cached) else None  # noqa: PTH113


def _how_to_build() -> str:
    package = __package__ or "runtime"
    return f"Run `python -m {package} build` (needs a C compiler), or use engine='numpy'."


@functools.cache
def load_extension() -> Any:
    """Load the compiled module.

    Returns:
        The module `_gatetable`; its functions are described in `kernel/module.c`.

    Raises:
        NativeUnavailableError: It is not built, was built from other sources, is not the user's
            own, or the system cannot load it.
    """
    path = find_extension()
    if path is None:
        raise NativeUnavailableError(
            f"{find_cache() / MODULE_FILE}: expected the compiled kernel, found no such file. "
            f"{_how_to_build()}"
        )
    if path.parent != KERNEL_FOLDER and hasattr(os, "getuid"):
        # Loading runs its code: a cache that others may write is nobody's word.
        status = path.parent.stat()
        if status.st_uid not in (os.getuid(), 0) or status.st_mode & 0o022:
            raise NativeUnavailableError(
                f"{path.parent}: expected a folder that only its owner, this user, can write, "
                f"found owner {status.st_uid} and mode {status.st_mode & 0o777:o}. Remove it, "
                f"or set GATETABLE_CACHE to a folder of your own. {_how_to_build()}"
            )
    loader = importlib.machinery.ExtensionFileLoader("_gatetable", str(path))
    spec = importlib.util.spec_from_loader("_gatetable", loader)
    assert spec is not None  # a loader was given
    try:
        module = importlib.util.module_from_spec(spec)
        loader.exec_module(module)
    except ImportError as err:
        raise NativeUnavailableError(
            f"{path}: expected a module this Python and NumPy {np.__version__} can load, found: "
            f"{err}. {_how_to_build()}"
        ) from err
    if path.parent == KERNEL_FOLDER and hash_sources() != module.SOURCE_SHA256:
        raise NativeUnavailableError(
            f"{path}: expected a build of the sources beside it, found one of other sources. "
            f"Remove it. {_how_to_build()}"
        )
    return module


def is_available() -> bool:
    """Tell whether `load_extension` would succeed."""
    try:
        load_extension()
    except NativeUnavailableError:
        return False
    return True
