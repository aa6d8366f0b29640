from __future__ import annotations

import shutil
import sys

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
def test_the_cache_follows_the_users_settings(tmp_path, monkeypatch):
    monkeypatch.delenv("GATETABLE_CACHE", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert native.find_cache().parent == tmp_path / "gatetable"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert native.find_cache().parent == tmp_path / ".cache" / "gatetable"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert native.find_cache().parent == tmp_path / "Library" / "Caches" / "gatetable"


@needs_compiler
def test_a_cache_that_others_can_write_is_refused(tmp_path, monkeypatch, fast_compiler):
    monkeypatch.setenv("GATETABLE_CACHE", str(tmp_path))
    folder = build.build().parent
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
    build.build(kernel)
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
    build.build().write_bytes(b"not a module")
    with pytest.raises(
        NativeUnavailableError, match=r"expected a module this Python and NumPy .* can load, found"
    ):
        native.load_extension()


def test_a_cache_that_cannot_be_read_is_no_cache(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("GATETABLE_CACHE", str(tmp_path / "file"))
    assert native.find_extension() is None
    monkeypatch.setattr(native, "find_cache", lambda: tmp_path / ("x" * 300))  # no such name can be
    assert native.find_extension() is None
