from __future__ import annotations

import base64
import csv
import hashlib
import importlib.metadata
import io
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from email.parser import BytesParser
from pathlib import Path

import pytest

from export import wheel
from export.lookup import native
from export.wheel import REPOSITORY, WheelError, build_wheel

needs_compiler = pytest.mark.skipif(not native.is_available(), reason="no C compiler here")
VERSION = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
MODULE = "gatetable_runtime/kernel/_gatetable.abi3.so"


@pytest.fixture(autouse=True)
def fast_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile without optimising: what is tested is the wheel, not the kernel."""
    monkeypatch.setenv("CFLAGS", "-O0")


@pytest.fixture(scope="module")
def native_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel with the kernel, for tests that only read it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CFLAGS", "-O0")
        return build_wheel(tmp_path_factory.mktemp("wheels")).path


@pytest.fixture
def pure_wheel(tmp_path: Path) -> Path:
    return build_wheel(tmp_path / "pure", pure=True).path


def read_files(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def check_record(path: Path) -> None:
    files = read_files(path)
    record = f"gatetable_runtime-{VERSION}.dist-info/RECORD"
    assert list(files)[-1] == record
    rows = list(csv.reader(io.StringIO(files[record].decode())))
    assert rows.pop() == [record, "", ""]
    assert [name for name, _, _ in rows] == list(files)[:-1]
    for name, digest, size in rows:
        method, _, value = digest.partition("=")
        raw = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
        assert (method, raw) == ("sha256", hashlib.sha256(files[name]).digest())
        assert int(size) == len(files[name])


@needs_compiler
def test_a_wheel_is_small_and_named_after_the_stable_abi(native_wheel: Path) -> None:
    tag = f"cp311-abi3-{wheel._platform_tag()}"
    assert native_wheel.name == f"gatetable_runtime-{VERSION}-{tag}.whl"
    assert native_wheel.stat().st_size < 300_000
    files = read_files(native_wheel)
    assert files[MODULE].startswith((b"\x7fELF", b"\xcf\xfa\xed\xfe"))
    about = BytesParser().parsebytes(files[f"gatetable_runtime-{VERSION}.dist-info/WHEEL"])
    assert about["Root-Is-Purelib"] == "false"
    assert about["Tag"] == tag
    # The tag promises what the module was compiled for.
    assert (
        "#define Py_LIMITED_API 0x030b0000" in files["gatetable_runtime/kernel/module.c"].decode()
    )


@needs_compiler
def test_record_hashes_every_file_and_comes_last(native_wheel: Path, pure_wheel: Path) -> None:
    check_record(native_wheel)
    check_record(pure_wheel)


@needs_compiler
def test_two_builds_are_the_same_bytes(native_wheel: Path, tmp_path: Path) -> None:
    again = build_wheel(tmp_path).path
    assert again.read_bytes() == native_wheel.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == [native_wheel.name]  # nothing left behind


def test_it_holds_what_travels_in_an_artifact_and_nothing_else(
    pure_wheel: Path, tiny_lookup: Path
) -> None:
    runtime = tiny_lookup / "runtime"
    expected = {
        f"gatetable_runtime/{path.relative_to(runtime).as_posix()}": path.read_bytes()
        for path in runtime.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    files = read_files(pure_wheel)
    assert {name: data for name, data in files.items() if ".dist-info/" not in name} == expected | {
        "gatetable_runtime/py.typed": b""
    }
    assert b"Apache License" in files[f"gatetable_runtime-{VERSION}.dist-info/licenses/LICENSE"]


def test_the_metadata_asks_for_numpy_alone_and_sentencepiece_as_an_extra(pure_wheel: Path) -> None:
    files = read_files(pure_wheel)
    metadata = BytesParser().parsebytes(files[f"gatetable_runtime-{VERSION}.dist-info/METADATA"])
    assert metadata.defects == []
    assert (metadata["Name"], metadata["Version"]) == ("gatetable-runtime", VERSION)
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("Provides-Extra") == ["text"]
    plain, extra = metadata.get_all("Requires-Dist")
    assert plain == "numpy>=2.0"
    assert re.fullmatch(r'sentencepiece>=[0-9.]+; extra == "text"', extra)
    text = metadata.get_payload()
    assert isinstance(text, str) and text.startswith("# gatetable-runtime\n")
    assert "python -m gatetable_runtime lookup/" in text


def test_without_a_compiler_the_wheel_is_pure_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pure_wheel: Path
) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    result = build_wheel(tmp_path)
    assert result.path.name == f"gatetable_runtime-{VERSION}-py3-none-any.whl"
    assert result.missing is not None
    assert result.missing.startswith("PATH: expected a C compiler (cc, gcc or clang), found none.")
    assert result.path.read_bytes() == pure_wheel.read_bytes()
    about = read_files(result.path)[f"gatetable_runtime-{VERSION}.dist-info/WHEEL"]
    assert b"Root-Is-Purelib: true\nTag: py3-none-any\n" in about


def test_a_compiler_that_fails_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(
        WheelError,
        match=r"^no-such-compiler: expected a C compiler, found: .* Set CC to one\. Or pass --pure "
        r"for a wheel without the compiled kernel\.$",
    ):
        build_wheel(tmp_path)
    assert list(tmp_path.iterdir()) == []


@needs_compiler
def test_a_kernel_that_does_not_load_is_no_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = tmp_path / "cc"
    compiler.write_text('for output; do :; done; echo "not a module" > "$output"\n')
    monkeypatch.setenv("CC", f"sh {compiler}")
    with pytest.raises(
        WheelError,
        match=r"^_gatetable\.abi3\.so: expected a compiled kernel that loads, found: "
        r"gatetable_runtime\.native\.NativeUnavailableError: gatetable_runtime/kernel/"
        r"_gatetable\.abi3\.so: expected a module this Python and NumPy .* can load, found: .*"
        r"Check CC and CFLAGS\.$",
    ):
        build_wheel(tmp_path / "wheels")
    assert list((tmp_path / "wheels").iterdir()) == []


def test_places_that_will_not_do_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        WheelError, match=r"file: expected a folder to write into, found a file\. Name another\.$"
    ):
        build_wheel(tmp_path / "file", pure=True)
    monkeypatch.setattr(wheel, "REPOSITORY", tmp_path)
    with pytest.raises(
        WheelError,
        match=r"pyproject\.toml: expected a file of the repository, found none\. Build the wheel "
        r"in a whole clone, by `make wheel`\.$",
    ):
        build_wheel(tmp_path / "wheels", pure=True)


def test_the_platform_is_this_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, tag in (
        ("linux-x86_64", "linux_x86_64"),
        ("linux-aarch64", "linux_aarch64"),
        ("macosx-10.9-universal2", "macosx_10_9_arm64"),
    ):
        monkeypatch.setattr(wheel.sysconfig, "get_platform", lambda name=name: name)
        monkeypatch.setattr(wheel.platform, "machine", lambda: "arm64")
        assert wheel._platform_tag() == tag


def link_distribution(site_packages: Path, name: str) -> None:
    """Make one installed distribution visible in another environment, without a copy."""
    distribution = importlib.metadata.distribution(name)
    roots = {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}
    for root in roots:
        (site_packages / root).symlink_to(Path(str(distribution.locate_file(root))))


@pytest.mark.slow
@needs_compiler
def test_it_installs_where_numpy_is_and_serves_a_folder(
    native_wheel: Path, tiny_lookup: Path, tmp_path: Path
) -> None:
    venv.create(tmp_path / "venv", symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    (site_packages,) = (tmp_path / "venv").glob("lib/python3*/site-packages")
    for name in ("numpy", "sentencepiece"):
        link_distribution(site_packages, name)

    def run(*command: str | Path) -> str:
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env={**os.environ, "GATETABLE_CACHE": str(tmp_path / "cache")},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    # No index and no --no-deps: pip itself has to find both requirements met.
    run(
        *(sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"),
        *("install", "--quiet", "--no-index", "--no-compile", f"{native_wheel}[text]"),
    )
    predictions = run(
        *(python, "-I", "-m", "gatetable_runtime", tiny_lookup),
        *("the small cat", "--engine", "native", "--k", "5"),
    )
    first, *lines = predictions.splitlines()
    assert first == "the small cat"
    assert {line.split("%  ")[1] for line in lines} == {"animal", "place", "food", "act", "time"}
    # What the wheel's own text shows, as it stands.
    shutil.copytree(tiny_lookup, tmp_path / "lookup")
    (code,) = re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs/runtime.md").read_text(), re.S)
    code += (
        "from gatetable_runtime import native; print(model.engine.name, native.find_extension())"
    )
    engine, extension = run(python, "-I", "-c", code).split()
    assert (engine, Path(extension)) == ("native", (site_packages / MODULE).resolve())
    assert not (tmp_path / "cache").exists()  # nothing was compiled
