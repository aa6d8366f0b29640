from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest

from serving_compare.bench.forms import (
    ISA_VARIABLE,
    ONNX_FORMS,
    OWN_FORMS,
    BoundOnnxForm,
    FormFiles,
    NativeForm,
    UnavailableError,
)
from serving_compare.bench.models import compute_reference, draw_rows, read_weights

from .conftest import VOCAB, needs_native

WITHOUT_TENSORFLOW = ("lookup numpy", *ONNX_FORMS)


@pytest.fixture
def no_isa(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(ISA_VARIABLE, raising=False)
    yield
    assert ISA_VARIABLE not in os.environ


def ask(name: str, files: FormFiles, tokens: int) -> tuple[np.ndarray, np.ndarray]:
    rows = draw_rows(VOCAB, [tokens], count=4, seed=1)[tokens]
    call = OWN_FORMS[name](files).make_call(tokens)
    lengths = np.array([tokens], np.int32)
    answers = np.concatenate([np.array(call(row[None], lengths)) for row in rows])
    return np.log(answers), compute_reference(read_weights(files.path("weights.npz")), rows)


@pytest.mark.parametrize("tokens", [1, 2, 7])
@pytest.mark.parametrize("name", WITHOUT_TENSORFLOW)
def test_a_form_gives_the_right_probabilities(name: str, tokens: int, untrained: FormFiles):
    found, expected = ask(name, untrained, tokens)
    assert np.abs(found - expected).max() < 1e-6


@needs_native
@pytest.mark.parametrize(
    ("name", "tolerance"),
    [("lookup native portable", 1e-6), ("lookup native int16", 1e-3), ("lookup native int8", 3e-2)],
)
def test_the_native_forms_give_them_too(
    name: str, tolerance: float, untrained: FormFiles, no_isa: None
):
    found, expected = ask(name, untrained, 7)
    assert np.abs(found - expected).max() < tolerance


@needs_native
def test_the_instruction_set_is_forced_and_the_environment_as_before(
    untrained: FormFiles, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(ISA_VARIABLE, "avx2")
    form = NativeForm(untrained, isa="portable")
    assert form.model.engine.isa == "portable"
    assert os.environ[ISA_VARIABLE] == "avx2"


@needs_native
def test_an_instruction_set_that_is_missing_is_a_reason_not_an_error(
    untrained: FormFiles, no_isa: None
):
    with pytest.raises(UnavailableError, match=r"^this CPU has no z80$"):
        NativeForm(untrained, isa="z80")


def test_a_missing_kernel_is_a_reason_not_an_error(
    untrained: FormFiles, tmp_path, monkeypatch: pytest.MonkeyPatch
):
    from export.lookup import native

    monkeypatch.setenv("GATETABLE_CACHE", str(tmp_path))
    monkeypatch.setattr(native, "find_extension", lambda: None)
    native.load_extension.cache_clear()
    try:
        with pytest.raises(UnavailableError, match=r"^the native engine is not built$"):
            NativeForm(untrained)
    finally:
        native.load_extension.cache_clear()


def test_the_bound_answer_is_a_buffer_that_the_next_call_overwrites(untrained: FormFiles):
    call = BoundOnnxForm(untrained).make_call(1)
    lengths = np.array([1], np.int32)
    first = call(np.array([[5]], np.int32), lengths)
    kept = first.copy()
    second = call(np.array([[9]], np.int32), lengths)
    assert second is first
    assert not np.array_equal(kept, second)


def test_null_answers_with_one_row_whatever_is_asked(untrained: FormFiles):
    call = OWN_FORMS["null"](untrained).make_call(3)
    assert call(np.zeros((5, 3), np.int32), np.ones(5, np.int32)).shape == (1, 3)
