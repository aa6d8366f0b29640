from __future__ import annotations

import pytest

from export.lookup.engine import ENGINES, make_engine


def test_auto_takes_the_first_engine(raw_model, monkeypatch):
    model = raw_model()
    assert make_engine("auto", model.config, model.fold()).name == "numpy"
    monkeypatch.setattr(
        "export.lookup.engine.ENGINES", {"fast": lambda config, arrays: "fast"} | ENGINES
    )
    assert make_engine("auto", model.config, {}) == "fast"
    assert make_engine("numpy", model.config, model.fold()).name == "numpy"


def test_unknown_engines_are_refused(raw_model):
    model = raw_model()
    with pytest.raises(ValueError, match="engine: expected one of auto, numpy, found 'cuda'"):
        make_engine("cuda", model.config, model.fold())
