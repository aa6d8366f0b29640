from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from serving_compare import worker
from serving_compare.worker import _ask_new_shapes, answer_texts, read_memory_bytes, read_pss_bytes


class SlowTexts:
    """Answers class 1, then 0, then 2; takes half a second of fake time a call."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 0.0
        self.calls: list[int] = []
        monkeypatch.setattr(worker.time, "perf_counter", lambda: self.now_s)

    def run_texts(self, texts: Sequence[str]) -> np.ndarray:
        self.now_s += 0.5
        self.calls.append(len(texts))
        return np.tile(np.array([[0.3, 0.6, 0.1]], np.float32), (len(texts), 1))


def test_texts_are_answered_one_call_each_while_time_lasts(monkeypatch: pytest.MonkeyPatch):
    backend = SlowTexts(monkeypatch)
    top_k, single = answer_texts(backend, ["a"] * 10, k=2, budget_s=99)  # type: ignore[arg-type]
    assert backend.calls == [1] * 10
    assert single == 10
    assert top_k.tolist() == [[1, 0]] * 10


def test_texts_beyond_the_time_budget_go_in_batches(monkeypatch: pytest.MonkeyPatch):
    backend = SlowTexts(monkeypatch)
    top_k, single = answer_texts(
        backend,  # type: ignore[arg-type]
        ["a"] * 21,
        k=3,
        budget_s=1.4,
        batch_size=8,
    )
    assert backend.calls == [1, 1, 1, 8, 8, 2]
    assert single == 3
    assert top_k.shape == (21, 3)


def test_no_texts_give_no_answers(monkeypatch: pytest.MonkeyPatch):
    top_k, single = answer_texts(SlowTexts(monkeypatch), [], k=3, budget_s=1)  # type: ignore[arg-type]
    assert (top_k.shape, single) == ((0, 3), 0)


def test_memory_is_read_from_the_status_file(tmp_path: Path):
    (tmp_path / "status").write_text("Name:\tpython\nVmHWM:\t  2048 kB\nRssAnon:\t 1024 kB\n")
    assert read_memory_bytes(tmp_path / "status") == {
        "peak_bytes": 2_097_152,
        "private_bytes": 1_048_576,
    }


def test_memory_without_a_status_file_is_the_peak_alone(tmp_path: Path):
    memory = read_memory_bytes(tmp_path / "none")
    assert list(memory) == ["peak_bytes"]
    assert memory["peak_bytes"] > 2**20


def test_the_proportional_set_is_read_where_the_system_tells_it(tmp_path: Path):
    (tmp_path / "rollup").write_text(
        "00400000-7fff rollup\nRss:   4096 kB\nPss:   2048 kB\nPss_Dirty:  1024 kB\n"
    )
    assert read_pss_bytes(tmp_path / "rollup") == {"pss_bytes": 2_097_152}
    assert read_pss_bytes(tmp_path / "none") == {}


def test_every_shape_is_asked_once_before_anything_is_timed():
    asked: list[tuple[int, ...]] = []
    rows = [np.ones((1, 3)), np.ones((1, 4)), np.zeros((1, 3)), np.ones((2, 3))]
    seen: set[tuple[int, ...]] = {(1, 4)}
    requests = [(ids, np.ones(len(ids))) for ids in rows]
    _ask_new_shapes(lambda ids, lengths: asked.append(ids.shape), requests, seen)
    assert asked == [(1, 3), (2, 3)]
