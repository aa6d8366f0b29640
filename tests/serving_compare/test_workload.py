from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving_compare.workload import (
    Request,
    TextsError,
    choose_title_chars,
    make_workload,
    pad_rows,
    read_texts,
    read_workload_cells,
    split_cell,
    write_workload,
)

VOCAB = 64


def encode_words(texts: Sequence[str]) -> list[list[int]]:
    """One id a word: its length."""
    return [[len(word) for word in text.split()] or [1] for text in texts]


def test_same_seed_gives_the_same_workload(texts: list[str]):
    first = make_workload(texts, encode_words, max_tokens=64, vocab_size=VOCAB, seed=3)
    second = make_workload(texts, encode_words, max_tokens=64, vocab_size=VOCAB, seed=3)
    other = make_workload(texts, encode_words, max_tokens=64, vocab_size=VOCAB, seed=4)
    assert first.sha256 == second.sha256 != other.sha256


def test_token_cells_have_exactly_their_length(texts: list[str]):
    workload = make_workload(texts, encode_words, max_tokens=64, vocab_size=VOCAB, seed=1)
    for tokens in (1, 2, 5, 10, 11, 20, 40):
        for request in workload.cells[f"tokens_{tokens}"]:
            assert [len(row) for row in request.rows] == [tokens]


def test_ids_come_from_the_texts_alone(texts: list[str]):
    workload = make_workload(texts, encode_words, max_tokens=64, vocab_size=VOCAB, seed=1)
    known = {token for row in encode_words(texts) for token in row}
    for name, requests in workload.cells.items():
        if not name.startswith(("title_text", "uniform")):
            assert {t for request in requests for row in request.rows for t in row} <= known


def test_whole_texts_are_preferred_over_cut_and_joined_ones(texts: list[str]):
    workload = make_workload(
        texts, encode_words, max_tokens=64, vocab_size=VOCAB, seed=1, requests_per_cell=8
    )
    assert workload.notes["tokens_5"] == "8 whole texts, 0 cut, 0 joined from several"
    assert workload.notes["tokens_40"] == "0 whole texts, 0 cut, 8 joined from several"


def test_lengths_the_artifact_cuts_are_left_out_with_a_note(texts: list[str]):
    workload = make_workload(texts, encode_words, max_tokens=16, vocab_size=VOCAB, seed=1)
    assert "tokens_20" not in workload.cells
    assert workload.notes["tokens_20"] == ("left out: the artifact cuts every text to 16 tokens")


def test_title_cells_hold_the_same_texts_as_strings_and_as_ids(texts: list[str]):
    workload = make_workload(texts, encode_words, max_tokens=64, vocab_size=VOCAB, seed=1)
    kinds = {split_cell(name) for name in workload.cells}
    sizes = [size for kind, size in kinds if kind == "title_text"]
    assert len(sizes) == 5
    for size in sizes:
        strings = workload.cells[f"title_text_{size}"]
        ids = workload.cells[f"title_ids_{size}"]
        assert {len(request.texts[0]) for request in strings} == {size}
        assert [list(r.rows[0]) for r in ids] == encode_words([r.texts[0] for r in strings])


def test_title_length_is_the_nearest_that_enough_texts_have():
    texts = ["a" * 3] * 2 + ["a" * 6] * 8 + ["a" * 30] * 20
    assert choose_title_chars(texts, (2, 20)) == {2: 6, 20: 30}


def test_one_text_of_a_length_is_enough_where_no_length_has_more():
    assert choose_title_chars(["a", "bb", "cccc"], (2, 3, 9)) == {9: 1, 2: 2, 3: 4}


def test_fewer_titles_than_wanted_are_given_rather_than_one_twice():
    assert choose_title_chars(["aa"] * 9, (2, 10)) == {2: 2}


def test_batches_have_their_size(texts: list[str]):
    workload = make_workload(texts, encode_words, max_tokens=64, vocab_size=VOCAB, seed=1)
    for size in (1, 8, 32, 256):
        assert {len(r.rows) for r in workload.cells[f"batch_{size}"]} == {size}


def test_drawn_ids_are_those_of_the_texts_or_any_of_the_vocabulary(texts: list[str]):
    workload = make_workload(texts, encode_words, max_tokens=64, vocab_size=5000, seed=1)
    ids = {
        kind: np.array([request.rows[0] for request in workload.cells[f"{kind}_10"]])
        for kind in ("zipf", "uniform")
    }
    assert {array.shape for array in ids.values()} == {(256, 10)}
    # The drawn ids occur as often as in the texts: the first three make up a like share.
    seen = Counter(token for row in encode_words(texts) for token in row)
    common = [token for token, _ in seen.most_common(3)]
    wanted = sum(seen[token] for token in common) / seen.total()
    assert np.isin(ids["zipf"], common).mean() == pytest.approx(wanted, abs=0.05)
    assert 1 <= ids["uniform"].min() < 100
    assert 4900 < ids["uniform"].max() < 5000
    assert workload.notes["uniform_10"].startswith("256 rows of 10 ids each as likely as any")


def test_cold_and_all_cores_cells_hold_what_their_warm_ones_hold(texts: list[str]):
    cells = make_workload(texts, encode_words, max_tokens=64, vocab_size=VOCAB, seed=1).cells
    assert cells["cold_10"] == cells["tokens_10"]
    assert cells["all_cores_256"] == cells["batch_256"]


def test_short_artifacts_have_short_drawn_rows_and_no_cold_ones(texts: list[str]):
    cells = make_workload(texts, encode_words, max_tokens=4, vocab_size=VOCAB, seed=1).cells
    assert len(cells["zipf_4"][0].rows[0]) == 4
    assert not any(name.startswith("cold") for name in cells)


def test_workload_file_gives_the_cells_back(tmp_path: Path, texts: list[str]):
    workload = make_workload(texts, encode_words, max_tokens=64, vocab_size=VOCAB, seed=1)
    write_workload(tmp_path / "workload.json", workload)
    assert read_workload_cells(tmp_path / "workload.json") == workload.cells


def test_workload_of_no_texts_is_refused():
    with pytest.raises(ValueError, match=r"texts: expected at least one, found none\."):
        make_workload([], encode_words, max_tokens=8, vocab_size=VOCAB, seed=1)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(st.integers(1, 99), min_size=0, max_size=6), min_size=1, max_size=5))
def test_padding_keeps_every_id_and_adds_zeros(rows: list[list[int]]):
    ids, lengths = pad_rows(rows)
    assert ids.dtype == lengths.dtype == np.int32
    assert ids.shape[1] >= 1
    for row, padded, length in zip(rows, ids, lengths, strict=True):
        assert list(padded[:length]) == row
        assert not padded[length:].any()


def test_cell_names_are_split_into_kind_and_size():
    assert split_cell("title_text_50") == ("title_text", 50)


@pytest.mark.parametrize("name", ["tokens", "tokens_", "tokens_x", "speed_5"])
def test_unknown_cell_names_are_refused(name: str):
    with pytest.raises(ValueError, match=r"cell: expected one of tokens, .* found '" + name):
        split_cell(name)


def test_texts_are_read_with_their_labels(tmp_path: Path):
    path = tmp_path / "split.jsonl"
    path.write_text('{"text": "a\\u2028b", "label": 1}\n\n{"text": "", "label": 0}\n')
    found = read_texts(path, 2)
    assert found.texts == ("a\u2028b", "")
    assert found.labels == (1, 0)


@pytest.mark.parametrize(
    "line",
    ["{", "[]", '{"text": "a"}', '{"text": 1, "label": 0}', '{"text": "a", "label": 2}',
     '{"text": "a", "label": true}'],
)  # fmt: skip
def test_lines_of_another_form_are_refused_by_number(tmp_path: Path, line: str):
    path = tmp_path / "split.jsonl"
    path.write_text('{"text": "a", "label": 0}\n' + line + "\n")
    with pytest.raises(TextsError, match=r'line 2: expected {"text": "\.\.\.", "label": 0 to 1}'):
        read_texts(path, 2)


def test_empty_and_missing_files_of_texts_are_refused(tmp_path: Path):
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(TextsError, match=r"expected at least one line, found none\."):
        read_texts(tmp_path / "empty", 2)
    for name in ("missing", "binary"):
        with pytest.raises(TextsError, match=rf"{name}: expected a UTF-8 file of texts, found"):
            read_texts(tmp_path / name, 2)


def test_huge_files_of_texts_are_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("serving_compare.workload.MAX_TEXTS_BYTES", 3)
    (tmp_path / "split.jsonl").write_text("1234")
    with pytest.raises(TextsError, match=r"expected at most 3 bytes, found 4\."):
        read_texts(tmp_path / "split.jsonl", 2)


def test_requests_hold_either_rows_or_texts(texts: list[str]):
    workload = make_workload(texts, encode_words, max_tokens=64, vocab_size=VOCAB, seed=1)
    for name, requests in workload.cells.items():
        for request in requests:
            assert bool(request.texts) is name.startswith("title_text")
            assert bool(request.rows) is not bool(request.texts)
    assert Request().rows == ()
