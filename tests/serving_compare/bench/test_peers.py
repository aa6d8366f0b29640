"""The peer that the tests have: OpenVINO. The others are checked whenever `make bench` runs."""

from __future__ import annotations

import numpy as np
import pytest

from serving_compare.bench.forms import FormFiles, UnavailableError
from serving_compare.bench.models import compute_reference, draw_rows, read_weights
from serving_compare.bench.peers import LIBRARIES, PEER_FORMS, is_installed

from .conftest import VOCAB


@pytest.mark.parametrize("form", list(PEER_FORMS))
def test_a_peer_that_is_installed_gives_the_right_probabilities(form: str, untrained: FormFiles):
    if not is_installed(form) or form == "litert":  # LiteRT's files need TensorFlow
        pytest.skip("not installed")
    try:
        call = PEER_FORMS[form](untrained).make_call(5)
    except UnavailableError as err:
        pytest.skip(str(err))
    rows = draw_rows(VOCAB, [5], count=4, seed=1)[5]
    lengths = np.array([5], np.int32)
    answers = np.concatenate([np.array(call(row[None], lengths)) for row in rows])
    expected = compute_reference(read_weights(untrained.path("weights.npz")), rows)
    tolerance = 3e-2 if "bf16" in form else 1e-6
    assert np.abs(np.log(answers) - expected).max() < tolerance


def test_a_cpu_without_bf16_is_a_reason_not_an_error(
    untrained: FormFiles, monkeypatch: pytest.MonkeyPatch
):
    import openvino

    class Core:
        def get_property(self, *_: str) -> list[str]:
            return ["FP32", "INT8"]

    monkeypatch.setattr(openvino, "Core", Core)
    with pytest.raises(UnavailableError, match=r"^this CPU has no bf16 arithmetic$"):
        PEER_FORMS["openvino bf16"](untrained)


def test_every_peer_belongs_to_a_library():
    assert {form.split()[0] for form in PEER_FORMS} == set(LIBRARIES)
    assert is_installed("openvino f32")
