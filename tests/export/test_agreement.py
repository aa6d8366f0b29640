from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from export.agreement import (
    MAX_BATCH_IDS,
    MAX_BATCH_ROWS,
    PROBE_BATCH_SIZES,
    LabelledTexts,
    check_agreement,
    find_other_ids,
    iterate_batches,
    measure_agreement,
    replay_probes,
    tokenizer_problems,
)
from export.difference import AgreementError
from export.lookup import Probe
from export.runtimes import Runtime, pad_ids

CLASSES = 4


def logits_of(ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """A classifier of sorts: mean over the row's own ids, one slope a class."""
    lengths = np.maximum(lengths, 1)
    rows = [np.where(row[:n] == 0, 1, row[:n]).mean() for row, n in zip(ids, lengths, strict=True)]
    return (np.array(rows)[:, None] * np.linspace(0.1, 0.5, CLASSES)).astype(np.float32)


def softmax(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def reference(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    logits = logits_of(ids, (ids != 0).sum(axis=1))
    return logits, softmax(logits)


def pad_empty(ids: np.ndarray) -> np.ndarray:
    return ids if ids.shape[1] else np.ones((len(ids), 1), np.int32)


def make_runtime(shift: float = 0.0, name: str = "lookup", wrong_length: int = 0) -> Runtime:
    def predict(texts: Sequence[str], ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        found = softmax(logits_of(pad_empty(ids), lengths))
        found[lengths == wrong_length, 0] += shift
        return found

    return Runtime(
        name=name,
        predict=predict,
        logits=lambda ids, lengths: logits_of(pad_empty(ids), lengths),
        encode=lambda texts: [[ord(letter) - 96 for letter in text] or [1] for text in texts],
    )


def make_split(rows: int = 50) -> LabelledTexts:
    texts = ["abcdefgh"[: 1 + row % 8] for row in range(rows)]
    return LabelledTexts(
        texts=texts,
        ids=[[ord(letter) - 96 for letter in text] for text in texts],
        labels=[3] * rows,
    )


def make_probes() -> list[Probe]:
    texts = ["", "b", "abc", "hgfedcba", "bb"]
    ids = [[ord(letter) - 96 for letter in text] or [1] for text in texts]
    padded, _ = pad_ids(ids)
    values = reference(padded)[1]
    return [
        Probe(text, tuple(row), tuple(probabilities.tolist()))
        for text, row, probabilities in zip(texts, ids, values, strict=True)
    ]


def test_an_exact_form_has_no_problem() -> None:
    done: list[int] = []
    result = measure_agreement(
        reference, [make_runtime()], make_split(), make_probes(), k=2, advance=done.append
    )
    assert result.problems == ()
    assert sum(done) == 50
    assert result.accuracy["keras"] == result.accuracy["lookup"]
    assert result.accuracy["lookup"].top_1 == 1.0  # the last class has the steepest slope
    # Test split, five probes at every batch size, and rows without tokens in three widths.
    assert result.backends[0].rows == 50 + 5 * len(PROBE_BATCH_SIZES) + 2 * 3


@pytest.mark.parametrize(("wrong_length", "text"), [(5, "'abcde'"), (8, "'abcdefgh'"), (1, "'a'")])
def test_a_form_that_is_wrong_for_one_length_is_found(wrong_length: int, text: str) -> None:
    runtimes = [make_runtime(), make_runtime(1e-3, "onnx", wrong_length)]
    result = measure_agreement(reference, runtimes, make_split(), make_probes(), k=2)
    assert len(result.problems) == 1
    with pytest.raises(
        AgreementError,
        match=rf"onnx: expected probabilities within 1e-05 of Keras's, found .* 0.001 on {text}",
    ):
        check_agreement(result.problems)


def test_rows_without_tokens_are_checked() -> None:
    result = measure_agreement(
        reference, [make_runtime(1e-3, "onnx", 0)], make_split(), make_probes(), k=2
    )
    assert "ids of shape (2, 0), lengths 0" in result.problems[0]


def test_a_tokenizer_with_other_ids_is_found() -> None:
    runtime = make_runtime()
    other = Runtime(
        name="saved_model_text",
        predict=runtime.predict,
        encode=lambda texts: [[2] if text == "abc" else [1] for text in texts],
    )
    differences = list(find_other_ids([runtime, other], ["a", "abc", ""], [[1], [1, 2, 3], [1]]))
    assert differences == [("saved_model_text", "abc")]
    assert list(tokenizer_problems(differences)) == [
        "saved_model_text: expected sentencepiece's ids for every text, found others for 1, first "
        "for 'abc'. Train the tokenizer with model_type bpe: unigram breaks ties differently "
        "between libraries."
    ]


def test_replayed_probes_need_no_model() -> None:
    exact, shifted = replay_probes(
        [make_runtime(), make_runtime(1e-2, "onnx", 3)], make_probes(), 2
    )
    assert exact.problems == ()
    assert shifted.worst_text == "abc"
    assert len(shifted.problems) == 1


def test_forms_that_cannot_take_zero_columns_are_not_asked_to() -> None:
    seen: list[tuple[int, ...]] = []

    def predict(texts: Sequence[str], ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        seen.append(ids.shape)
        return softmax(logits_of(ids, lengths))

    runtime = Runtime(name="onnx", predict=predict, takes_no_steps=False)
    replay_probes([runtime], make_probes(), 2)
    assert min(width for _, width in seen) == 1


def test_every_probe_batch_size_is_used() -> None:
    seen: list[int] = []

    def predict(texts: Sequence[str], ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        seen.append(len(ids))
        return softmax(logits_of(ids, lengths))

    probes = make_probes() * 8
    replay_probes([Runtime(name="onnx", predict=predict, takes_no_steps=False)], probes, 2)
    assert set(PROBE_BATCH_SIZES) <= set(seen)


def test_batches_hold_every_row_once_and_stay_bounded() -> None:
    rng = np.random.default_rng(0)
    ids = [[1] * n for n in (*rng.integers(1, 400, 900), MAX_BATCH_IDS + 5)]
    batches = list(iterate_batches(ids))
    assert sorted(row for batch in batches for row in batch) == list(range(901))
    for batch in batches:
        width = max(len(ids[row]) for row in batch)
        assert len(batch) <= MAX_BATCH_ROWS
        assert len(batch) == 1 or len(batch) * width <= MAX_BATCH_IDS


def test_the_manifest_entry_rounds_differences_up() -> None:
    runtimes = [make_runtime(1.234e-6, "onnx", 3)]
    parity = measure_agreement(reference, runtimes, make_split(), make_probes(), k=2).to_json()
    assert parity["backends"]["onnx"]["max_abs_probability_diff"] == 1.3e-6
    assert parity["backends"]["onnx"]["top_k_disagreements"] == 0
    assert (parity["rows"], parity["probes"], parity["k"]) == (50, 5, 2)


def test_no_problem_is_no_error() -> None:
    check_agreement([])
