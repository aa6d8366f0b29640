"""Compiling the kernel, without any option that ties the result to one processor.

Apart from `native.py`, because what it imports would slow down every start of a program that only
loads.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import numpy as np

from . import native
from .native import MODULE_FILE, NativeUnavailableError

_SOURCES = ("module.c", "gatetable.c")
_FLAGS = ("-std=c11", "-O3", "-fPIC", "-shared", "-fvisibility=hidden")
_TIMEOUT_S = 300


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
    found = native.find_extension() if folder is None else None
    if found is not None and not force:
        return found
    target = (native.find_cache() if folder is None else folder) / MODULE_FILE
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
            f'-DGT_SOURCE_SHA256="{native.hash_sources()}"',
            f"-I{headers}",
            f"-I{np.get_include()}",
            *(str(native.KERNEL_FOLDER / name) for name in _SOURCES),
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
                f"{shlex.join(compiler)}: expected it to compile {native.KERNEL_FOLDER}, found "
                f"exit code {done.returncode}: {done.stderr.strip()[-2000:]}. Try another compiler "
                "by CC."
            )
        output.replace(target)
    native.load_extension.cache_clear()
    return target
