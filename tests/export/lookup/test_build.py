from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from export.lookup import build, native
from export.lookup.native import NativeUnavailableError

needs_compiler = pytest.mark.skipif(not native.is_available(), reason="no C compiler here")


@pytest.fixture(autouse=True)
def forget_the_module():
    """Let each test load anew, and the next one as well."""
    native.load_extension.cache_clear()
    yield
    native.load_extension.cache_clear()


@pytest.fixture
def fast_compiler(monkeypatch):
    """Compile without optimising: what is tested is how, not how fast."""
    monkeypatch.setenv("CFLAGS", "-O0")


@needs_compiler
def test_a_build_lands_in_the_cache_and_loads(tmp_path, monkeypatch, fast_compiler):
    monkeypatch.setenv("GATETABLE_CACHE", str(tmp_path))
    path = build.build()
    assert path.is_relative_to(tmp_path) and native.hash_sources()[:16] in str(path)
    assert native.hash_sources() == native.load_extension().SOURCE_SHA256
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    before = path.stat().st_mtime_ns
    assert build.build() == path and path.stat().st_mtime_ns == before  # nothing to do


def test_without_a_compiler_the_error_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("GATETABLE_CACHE", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        NativeUnavailableError,
        match=r"^PATH: expected a C compiler \(cc, gcc or clang\), found none\. Install one, for "
        r"example `apt install gcc`, or set CC; the NumPy engine needs none\.$",
    ):
        build.build()
    monkeypatch.setenv("CC", "no-such-compiler --fast")
    with pytest.raises(
        NativeUnavailableError,
        match=r"^no-such-compiler --fast: expected a C compiler, found: .*\. Set CC to one\.$",
    ):
        build.build()


def test_without_headers_the_error_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("GATETABLE_CACHE", str(tmp_path))
    monkeypatch.setattr(build.sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(
        NativeUnavailableError,
        match=r"Python\.h: expected the headers of Python, found no such file\. Install them, for "
        r"example `apt install python3-dev`; the NumPy engine needs none\.$",
    ):
        build.build()


@needs_compiler
def test_what_the_compiler_says_is_shown_and_nothing_is_left(monkeypatch, tmp_path):
    monkeypatch.setenv("GATETABLE_CACHE", str(tmp_path))
    monkeypatch.setenv("CFLAGS", "-DGATETABLE_H")  # the public header stays empty
    with pytest.raises(
        NativeUnavailableError,
        match=r"(?s)found exit code 1: .*error: .*Try another compiler by CC",
    ):
        build.build()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.slow
@needs_compiler
def test_builds_at_the_same_time_do_not_disturb_each_other(tmp_path):
    environment = os.environ | {"GATETABLE_CACHE": str(tmp_path), "CFLAGS": "-O0"}
    command = [sys.executable, "-m", "export.lookup", "build"]
    root = Path(native.__file__).parents[2]
    running = [
        subprocess.Popen(command, env=environment, cwd=root, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in running:
        output, _ = process.communicate()
        assert process.returncode == 0
        assert "compiled kernel, best instruction set here: " in output
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [native.MODULE_FILE]
