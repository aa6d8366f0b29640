"""The compiled kernel: where it is, how it is built, how it is loaded.

The sources in `kernel/` travel with this package. `build` compiles them, without any option that
ties the result to one processor, into a cache folder of the user that is named after their
checksum: every copy of one version of this package shares one build, no copy of an artifact is
changed by it, and a read-only folder is no obstacle. A wheel of the runtime has the compiled
module beside the sources instead.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.machinery
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

KERNEL_FOLDER = Path(__file__).parent / "kernel"
MODULE_FILE = "_gatetable.abi3.so"
_SOURCES = ("module.c", "gatetable.c")
_FLAGS = ("-std=c11", "-O3", "-fPIC", "-shared", "-fvisibility=hidden")
_TIMEOUT_S = 300


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


def _cache_folder() -> Path:
    """Return the folder of this version's build: $GATETABLE_CACHE, or the user's cache."""
    if folder := os.environ.get("GATETABLE_CACHE"):
        root = Path(folder)
    elif sys.platform == "darwin":
        root = Path.home() / "Library" / "Caches" / "gatetable"
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gatetable"
    return root / f"{hash_sources()[:16]}-{sysconfig.get_platform()}"


def find_extension() -> Path | None:
    """Return the compiled module's file, or None if there is none of these sources."""
    beside = KERNEL_FOLDER / MODULE_FILE
    if beside.is_file():
        return beside
    cached = _cache_folder() / MODULE_FILE
    return cached if cached.is_file() else None


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
            f"{_cache_folder() / MODULE_FILE}: expected the compiled kernel, found no such file. "
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


def find_compiler() -> list[str]:
    """Return the command of a C compiler: $CC, or the first of cc, gcc and clang.

    Raises:
        NativeUnavailableError: There is none.
    """
    if command := shlex.split(os.environ.get("CC", "")):
        return command
    for name in ("cc", "gcc", "clang"):
        if path := shutil.which(name):
            return [path]
    raise NativeUnavailableError(
        "PATH: expected a C compiler (cc, gcc or clang), found none. Install one, for example "
        "`apt install gcc`, or set CC; the NumPy engine needs none."
    )


def build(folder: Path | None = None, *, force: bool = False) -> Path:
    """Compile the kernel. Safe to run at the same time from any number of processes.

    Args:
        folder: Where to put the module; the user's cache when None.
        force: Compile even if it is there already.

    Returns:
        The module's file.

    Raises:
        NativeUnavailableError: No compiler, no headers of Python, or the compiler failed; its
            last words are in the message.
    """
    found = find_extension() if folder is None else None
    if found is not None and not force:
        return found
    target = (_cache_folder() if folder is None else folder) / MODULE_FILE
    headers = Path(sysconfig.get_path("include"))
    if not (headers / "Python.h").is_file():
        raise NativeUnavailableError(
            f"{headers / 'Python.h'}: expected the headers of Python, found no such file. Install "
            "them, for example `apt install python3-dev`; the NumPy engine needs none."
        )
    compiler = find_compiler()
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    extra = shlex.split(os.environ.get("CFLAGS", ""))
    # A temporary name in the same folder and a rename: no reader ever sees half a module.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".build-") as work:
        output = Path(work) / MODULE_FILE
        command = [
            *compiler,
            *_FLAGS,
            *(["-undefined", "dynamic_lookup"] if sys.platform == "darwin" else []),
            f'-DGT_SOURCE_SHA256="{hash_sources()}"',
            f"-I{headers}",
            f"-I{np.get_include()}",
            *(str(KERNEL_FOLDER / name) for name in _SOURCES),
            *extra,
            "-lm",
            "-o",
            str(output),
        ]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as err:
            raise NativeUnavailableError(
                f"{shlex.join(compiler)}: expected a C compiler, found: {err}. Set CC to one."
            ) from err
        if done.returncode != 0:
            raise NativeUnavailableError(
                f"{shlex.join(compiler)}: expected it to compile {KERNEL_FOLDER}, found exit code "
                f"{done.returncode}: {done.stderr.strip()[-2000:]}. Try another compiler by CC."
            )
        output.replace(target)
    load_extension.cache_clear()
    return target
