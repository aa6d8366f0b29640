from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from export.lookup import native
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


def test_without_a_build_the_error_says_how_to_get_one(tmp_path, monkeypatch):
    monkeypatch.setenv("GATETABLE_CACHE", str(tmp_path))
    assert native.find_extension() is None
    assert not native.is_available()
    with pytest.raises(
        NativeUnavailableError,
        match=r"_gatetable\.abi3\.so: expected the compiled kernel, found no such file\. Run "
        r"`python -m export\.lookup build` \(needs a C compiler\), or use engine='numpy'\.$",
    ):
        native.load_extension()


@needs_compiler
def test_a_build_lands_in_the_cache_and_loads(tmp_path, monkeypatch, fast_compiler):
    monkeypatch.setenv("GATETABLE_CACHE", str(tmp_path))
    path = native.build()
    assert path.is_relative_to(tmp_path) and native.hash_sources()[:16] in str(path)
    assert native.hash_sources() == native.load_extension().SOURCE_SHA256
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    before = path.stat().st_mtime_ns
    assert native.build() == path and path.stat().st_mtime_ns == before  # nothing to do


@needs_compiler
def test_the_cache_follows_the_users_settings(tmp_path, monkeypatch):
    monkeypatch.delenv("GATETABLE_CACHE", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert native._cache_folder().parent == tmp_path / "gatetable"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert native._cache_folder().parent == tmp_path / ".cache" / "gatetable"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert native._cache_folder().parent == tmp_path / "Library" / "Caches" / "gatetable"


@needs_compiler
def test_a_cache_that_others_can_write_is_refused(tmp_path, monkeypatch, fast_compiler):
    monkeypatch.setenv("GATETABLE_CACHE", str(tmp_path))
    folder = native.build().parent
    folder.chmod(0o777)
    with pytest.raises(
        NativeUnavailableError,
        match=rf"^{folder}: expected a folder that only its owner, this user, can write, found "
        r"owner \d+ and mode 777\. Remove it, or set GATETABLE_CACHE to a folder of your own\.",
    ):
        native.load_extension()


@needs_compiler
def test_a_module_of_other_sources_beside_them_is_refused(tmp_path, monkeypatch, fast_compiler):
    kernel = tmp_path / "kernel"
    shutil.copytree(native.KERNEL_FOLDER, kernel)
    monkeypatch.setattr(native, "KERNEL_FOLDER", kernel)
    native.build(kernel)
    assert native.find_extension() == kernel / native.MODULE_FILE
    assert native.is_available()
    native.load_extension.cache_clear()
    with (kernel / "gatetable.c").open("a") as file:
        file.write("/* changed */\n")
    with pytest.raises(
        NativeUnavailableError,
        match=r"expected a build of the sources beside it, found one of other sources\. Remove it",
    ):
        native.load_extension()


@needs_compiler
def test_a_file_that_is_no_module_is_refused(tmp_path, monkeypatch, fast_compiler):
    monkeypatch.setenv("GATETABLE_CACHE", str(tmp_path))
    native.build().write_bytes(b"not a module")
    with pytest.raises(
        NativeUnavailableError, match=r"expected a module this Python and NumPy .* can load, found"
    ):
        native.load_extension()


def test_without_a_compiler_the_error_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("GATETABLE_CACHE", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        NativeUnavailableError,
        match=r"^PATH: expected a C compiler \(cc, gcc or clang\), found none\. Install one, for "
        r"example `apt install gcc`, or set CC; the NumPy engine needs none\.$",
    ):
        native.build()
    monkeypatch.setenv("CC", "no-such-compiler --fast")
    with pytest.raises(
        NativeUnavailableError,
        match=r"^no-such-compiler --fast: expected a C compiler, found: .*\. Set CC to one\.$",
    ):
        native.build()


def test_without_headers_the_error_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("GATETABLE_CACHE", str(tmp_path))
    monkeypatch.setattr(native.sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(
        NativeUnavailableError,
        match=r"Python\.h: expected the headers of Python, found no such file\. Install them, for "
        r"example `apt install python3-dev`; the NumPy engine needs none\.$",
    ):
        native.build()


@needs_compiler
def test_what_the_compiler_says_is_shown_and_nothing_is_left(monkeypatch, tmp_path):
    monkeypatch.setenv("GATETABLE_CACHE", str(tmp_path))
    monkeypatch.setenv("CFLAGS", "-DGATETABLE_H")  # the public header stays empty
    with pytest.raises(
        NativeUnavailableError,
        match=r"(?s)found exit code 1: .*error: .*Try another compiler by CC",
    ):
        native.build()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


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
