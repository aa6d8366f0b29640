from __future__ import annotations

import shutil

import pytest

from export.lookup import native
from export.lookup.engine import make_engine


@pytest.fixture
def files(raw_model, lookup_files):
    model = raw_model()
    return lookup_files(model.config, model.fold())


def test_auto_takes_native_where_its_kernel_is_built(files, monkeypatch):
    for is_built, expected in ((True, "native"), (False, "numpy")):
        if is_built and not native.is_available():
            continue
        monkeypatch.setattr("export.lookup.engine.is_available", lambda found=is_built: found)
        assert make_engine("auto", files).name == expected
    assert make_engine("numpy", files).name == "numpy"


def test_the_kernel_is_built_wherever_there_is_a_compiler():
    """Otherwise every test of the native engine would be skipped and nobody would know."""
    assert native.is_available() == any(map(shutil.which, ("cc", "gcc", "clang")))


def test_unknown_engines_are_refused(files):
    with pytest.raises(
        ValueError, match=r"^engine: expected one of auto, native, numpy, found 'cuda'\.$"
    ):
        make_engine("cuda", files)
