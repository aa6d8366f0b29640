"""One pass over the shards: chunks, samples, and rows read again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data_card import data_pass
from pipeline.data_card.data_pass import cut, read_all, read_some
from pipeline.data_folder import PreparedData


@given(st.lists(st.integers(0, 30), max_size=30), st.integers(1, 6), st.integers(1, 40))
def test_slices_cover_all_rows_and_hold_little(
    sizes: list[int], most_rows: int, most_bytes: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data_pass, "_CHUNK_ROWS", most_rows)
        patch.setattr(data_pass, "_CHUNK_BYTES", most_bytes)
        slices = list(data_pass._slice_rows(sizes))
    parts = [sizes[part] for part in slices]
    assert [size for part in parts for size in part] == sizes
    assert all(len(part) <= most_rows for part in parts)
    assert all(sum(part) <= most_bytes or len(part) == 1 for part in parts)


def test_long_texts_are_cut_and_short_ones_are_not() -> None:
    assert cut("abc", 3) == "abc"
    assert cut("abcd", 3) == "abc…"


@pytest.mark.slow
def test_rows_are_found_again_by_their_number(prepared: PreparedData) -> None:
    texts, labels = prepared.train.read_rows()
    wanted = [0, len(texts) - 1, 200, 7]
    assert read_some(prepared.train, wanted) == {row: (texts[row], labels[row]) for row in wanted}
    assert read_some(prepared.train, []) == {}


@pytest.mark.slow
@pytest.mark.parametrize("rows", [100, 10_000])
def test_sample_is_spread_evenly_over_the_training_split(
    prepared: PreparedData, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(data_pass, "_SAMPLE_ROWS", rows)
    monkeypatch.setattr(data_pass, "_CHUNK_ROWS", 37)
    done = read_all(prepared, listed={1})
    texts, labels = prepared.train.read_rows()
    stride = -(-len(texts) // rows)
    assert done.sample.texts == texts[::stride]
    assert done.sample.labels == labels[::stride]
    assert set(done.class_examples) == {1}
    assert sum(map(len, done.patterns)) == 600


@pytest.mark.slow
def test_a_row_is_kept_of_few_pieces_only(
    prepared: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_pass, "_SAMPLE_PIECES", 2)
    done = read_all(prepared, listed=())
    assert max(map(len, done.sample.ids)) == 2
    assert all(ids.base is None for ids in done.sample.ids)
