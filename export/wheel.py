"""The runtime as a wheel: `export/lookup/` under the name gatetable_runtime, its kernel compiled.

Reads this repository: the runtime's sources, pyproject.toml for the version and the requirements,
LICENSE, and docs/runtime.md as the wheel's own text. Gives one file, and what lies beside it in
the folder stays: `gatetable_runtime-<version>-cp311-abi3-<platform>.whl`, or where nothing can be
compiled `...-py3-none-any.whl`, which serves with the NumPy engine.

It is written by the standard library, not by setuptools. A wheel is a zip of the package and of
four text files (PEP 427, PEP 639); setuptools would want a generated setup.py that compiles the
kernel with flags of its own, a second truth beside `build.build`, and stamps the files' times.
Here the same sources and tools (compiler, headers, zlib) give the same bytes in any folder at any
time, so that anybody can build a wheel again and compare.

The platform is the plain one of this machine, such as linux_x86_64: pip installs the file, but an
index wants a manylinux tag, which has to be proven by auditwheel.
"""

from __future__ import annotations

import base64
import hashlib
import os
import platform
import stat
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.lookup import NativeUnavailableError, build, native

DISTRIBUTION = "gatetable-runtime"
PACKAGE = "gatetable_runtime"
SUMMARY = "Serve GRU text classifiers from lookup tables, with NumPy alone."
REPOSITORY = Path(__file__).parents[1]

_PATTERNS = ("*.py", "kernel/*.c", "kernel/*.h")
_LICENSE_FILE = "LICENSE"
_README_FILE = "docs/runtime.md"
_PROJECT_FILE = "pyproject.toml"
_NATIVE_PYTHON = "cp311-abi3"
"""The stable ABI that `Py_LIMITED_API` in kernel/module.c asks for: Python 3.11 and later."""
_TIME = (1980, 1, 1, 0, 0, 0)
"""The earliest that a zip can say."""
_PROOF = f"""
import sys
sys.path.insert(0, sys.argv[1])
from {PACKAGE}.native import load_extension
load_extension()
"""


class WheelError(Exception):
    """The wheel cannot be built here."""


@dataclass(frozen=True)
class WheelResult:
    """A wheel that was built.

    Attributes:
        path: The file.
        missing: Why it holds no compiled kernel though one was wanted; None if nothing is missing.
    """

    path: Path
    missing: str | None = None


def _read(relative: str) -> bytes:
    """Return a file of the repository."""
    path = REPOSITORY / relative
    try:
        return path.read_bytes()
    except FileNotFoundError as err:
        raise WheelError(
            f"{path}: expected a file of the repository, found none. Build the wheel in a whole "
            "clone, by `make wheel`."
        ) from err


def _read_package() -> dict[str, bytes]:
    """Return the runtime's sources, the files that travel in every artifact, by relative name."""
    folder = native.KERNEL_FOLDER.parent
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for pattern in _PATTERNS
        for path in folder.glob(pattern)
    }
    # Says to type checkers that the annotations count (PEP 561).
    return files | {"py.typed": b""}


def _compile(package: Mapping[str, bytes]) -> bytes:
    """Return the compiled module of these sources, after it was loaded from beside them once.

    Raises:
        WheelError: It cannot be compiled, or what was compiled cannot be loaded.
    """
    with tempfile.TemporaryDirectory(prefix="gatetable-wheel-") as work:
        staged = Path(work) / PACKAGE
        for name, data in package.items():
            (staged / name).parent.mkdir(parents=True, exist_ok=True)
            (staged / name).write_bytes(data)
        try:
            module = build.build(staged / "kernel")
        except NativeUnavailableError as err:
            raise WheelError(
                f"{err} Or pass --pure for a wheel without the compiled kernel."
            ) from err
        # In a process of its own: this one may hold another build of the module. Its check of the
        # sources' checksum also finds an edit made between the copy and the compiler's reading.
        done = subprocess.run(
            [sys.executable, "-c", _PROOF, work], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise WheelError(
                f"{native.MODULE_FILE}: expected a compiled kernel that loads, found: "
                f"{last.replace(f'{work}{os.sep}', '').rstrip('.')}. Check CC and CFLAGS."
            )
        return module.read_bytes()


def _platform_tag() -> str:
    """Return this machine's platform as a wheel spells it: `linux_x86_64`."""
    # A Python for both kinds of Mac compiles for the machine it is on.
    name = sysconfig.get_platform().replace("universal2", platform.machine())
    return name.replace("-", "_").replace(".", "_")


def _format_metadata(project: Mapping[str, Any]) -> str:
    """Return METADATA: name, version and requirements of pyproject.toml, docs/runtime.md as text.

    What it takes from there: `dependencies`, NumPy alone, as they are, and sentencepiece from the
    extra `score` as the extra `text`.
    """
    (sentencepiece,) = (
        requirement
        for requirement in project["optional-dependencies"]["score"]
        if requirement.startswith("sentencepiece")
    )
    header = [
        ("Metadata-Version", "2.4"),
        ("Name", DISTRIBUTION),
        ("Version", project["version"]),
        ("Summary", SUMMARY),
        ("License-Expression", project["license"]),
        ("License-File", _LICENSE_FILE),
        ("Requires-Python", project["requires-python"]),
        *(("Requires-Dist", requirement) for requirement in project["dependencies"]),
        ("Provides-Extra", "text"),
        ("Requires-Dist", f'{sentencepiece}; extra == "text"'),
        ("Description-Content-Type", "text/markdown"),
    ]
    lines = "".join(f"{key}: {value}\n" for key, value in header)
    return f"{lines}\n{_read(_README_FILE).decode()}"


def _format_record(files: Mapping[str, bytes], record: str) -> str:
    """Return RECORD: name, sha256 and bytes of every file; its own line has neither."""
    lines = []
    for name, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(data)}\n")
    return "".join(lines) + f"{record},,\n"


def _write_zip(target: Path, files: Mapping[str, bytes]) -> None:
    """Write the files in their order, no trace of time or user, in one rename."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".wheel-")
    partial = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream, zipfile.ZipFile(stream, "w") as archive:
            for entry, data in files.items():
                info = zipfile.ZipInfo(entry, _TIME)
                info.create_system = 3  # Unix, on every system
                info.external_attr = (stat.S_IFREG | 0o644) << 16
                archive.writestr(info, data, zipfile.ZIP_DEFLATED, compresslevel=9)
        partial.chmod(0o644)  # mkstemp's 0600 would keep it from everybody else
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def build_wheel(folder: Path, *, pure: bool = False) -> WheelResult:
    """Build the wheel of the runtime. Safe to run at the same time from any number of processes.

    Args:
        folder: Where to put it; made if need be. A wheel of the same name is replaced.
        pure: Leave the compiled kernel out, for machines of every kind.

    Returns:
        The file, and why it has no compiled kernel if this machine has no C compiler.

    Raises:
        WheelError: A file of the repository is missing, `folder` is none, there is a compiler but
            no kernel came of it, or the kernel does not load.
    """
    if folder.exists() and not folder.is_dir():
        raise WheelError(f"{folder}: expected a folder to write into, found a file. Name another.")
    project = tomllib.loads(_read(_PROJECT_FILE).decode())["project"]
    dist_info = f"{PACKAGE}-{project['version']}.dist-info"
    metadata = _format_metadata(project)
    license_text = _read(_LICENSE_FILE)
    package = _read_package()
    folder.mkdir(parents=True, exist_ok=True)
    missing = None
    if not pure:
        try:
            build.find_compiler()
        except NativeUnavailableError as err:
            missing, pure = str(err), True
    tag = "py3-none-any" if pure else f"{_NATIVE_PYTHON}-{_platform_tag()}"
    if not pure:
        package[f"kernel/{native.MODULE_FILE}"] = _compile(package)
    # PEP 427 advises to put the metadata at the end.
    files = {f"{PACKAGE}/{name}": package[name] for name in sorted(package)}
    files |= {
        f"{dist_info}/METADATA": metadata.encode(),
        f"{dist_info}/WHEEL": (
            f"Wheel-Version: 1.0\nGenerator: gatetable {project['version']}\n"
            f"Root-Is-Purelib: {'true' if pure else 'false'}\nTag: {tag}\n"
        ).encode(),
        f"{dist_info}/licenses/{_LICENSE_FILE}": license_text,
    }
    record = f"{dist_info}/RECORD"
    files[record] = _format_record(files, record).encode()
    target = folder / f"{PACKAGE}-{project['version']}-{tag}.whl"
    _write_zip(target, files)
    return WheelResult(target, missing)
