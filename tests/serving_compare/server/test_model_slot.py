"""Models are proven before they answer, checked the same in every backend, and exchanged whole."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from export.bundle import BundleError
from serving_compare.backends import BACKENDS, NullBackend
from serving_compare.server.errors import InputError, RequestError, ServerError
from serving_compare.server.model_slot import ModelSlot, find_latest, load_model
from tests.serving_compare.server.running import GOLDEN
from tests.serving_compare.server.versions import add_version

ONE_ROW = np.array([[3, 4]], np.int32), np.array([2], np.int32)


@pytest.mark.parametrize("backend", ["lookup", "lookup_numpy", "onnx", "tf2onnx"])
def test_a_loaded_model_gives_the_same_as_every_other(backend: str) -> None:
    if backend == "tf2onnx" and not (GOLDEN / "oracle").exists():
        pytest.skip("the golden artifact has no oracle")
    model, reference = load_model(backend, GOLDEN), load_model("lookup", GOLDEN)
    assert model.run_ids(*ONE_ROW).probabilities == pytest.approx(
        reference.run_ids(*ONE_ROW).probabilities, abs=2e-5
    )
    assert model.run_texts(["stone", "dog"]).probabilities == pytest.approx(
        reference.run_texts(["stone", "dog"]).probabilities, abs=2e-5
    )


def test_null_answers_with_as_many_rows_as_are_asked_for() -> None:
    model = load_model("null", GOLDEN)
    assert model.run_texts(["a", "b", "c"]).probabilities.shape == (3, 2)
    assert model.lookup is None


@pytest.mark.parametrize("backend", ["lookup", "onnx", "null"])
def test_ids_outside_the_vocabulary_are_the_same_error_in_every_backend(backend: str) -> None:
    model = load_model(backend, GOLDEN)
    for bad in (-1, 96, 2**31 - 1):
        with pytest.raises(
            InputError,
            match=rf"^ids\[0\]\[1\]: expected an id from 0 to 95, found {bad}\.$",
        ):
            model.check_ids(np.array([[0, bad, 95]], np.int32), "ids")
    model.check_ids(np.array([[0, 95]], np.int32), "ids")


def test_a_backend_that_answers_otherwise_than_the_probes_is_not_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(BACKENDS, "wrong", NullBackend)
    with pytest.raises(
        ServerError,
        match=r"golden.jsonl line 1: expected the trained model's probabilities within 1e-05 from "
        r"backend wrong, text in, found a difference of .*\. Export the run again with `make "
        r"export`\.$",
    ):
        load_model("wrong", GOLDEN)


def test_a_damaged_file_is_noticed_before_anything_is_loaded(tmp_path: Path) -> None:
    folder = tmp_path / "1"
    shutil.copytree(GOLDEN, folder)
    graph = folder / "model.onnx"
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)
    with pytest.raises(BundleError, match=r"model.onnx: expected sha256"):
        load_model("lookup", folder)


def test_nobody_gets_a_model_that_is_loading() -> None:
    slot = ModelSlot("lookup", GOLDEN, follow=False)
    assert not slot.is_loaded
    with pytest.raises(
        RequestError,
        match=r"^The model of backend lookup is still loading\. Ask again in a second\.$",
    ) as caught:
        slot.find("tiny")
    assert caught.value.status == 503
    assert caught.value.headers == ((b"retry-after", b"1"),)


def test_a_model_is_found_by_its_name_only() -> None:
    slot = ModelSlot("lookup", GOLDEN, follow=False)
    slot.exchange(slot.load())
    assert slot.find("tiny").version == 1
    with pytest.raises(
        RequestError, match=r"^model 'other': expected 'tiny', the one this server holds\.$"
    ) as caught:
        slot.find("other")
    assert caught.value.status == 404


def test_whoever_watches_a_slot_hears_of_calls_of_the_model_in_use_only() -> None:
    slot = ModelSlot("lookup", GOLDEN, follow=False)
    heard: list[int] = []
    slot.observe = lambda model_ns, rows: heard.append(rows)
    slot.exchange(slot.load())
    assert heard == []  # the probes do not count
    slot.current.run_texts(["a", "b"])
    slot.current.run_ids(*ONE_ROW)
    assert heard == [2, 1]


def test_an_exchange_leaves_those_with_the_old_model_alone(tmp_path: Path) -> None:
    add_version(tmp_path, 1)
    slot = ModelSlot("lookup", tmp_path, follow=True, max_ids=4)
    slot.exchange(slot.load())
    old = slot.current
    add_version(tmp_path, 2)
    slot.exchange(slot.load())
    assert (old.version, slot.current.version) == (1, 2)
    assert len(old.run_texts(["stone"]).probabilities) == 1
    assert (slot.current.max_ids, slot.current.max_tokens) == (4, 6)


def test_latest_must_name_a_version_that_is_there(tmp_path: Path) -> None:
    with pytest.raises(
        BundleError, match=r"latest: expected the number of a version, found no such file\. Export"
    ):
        find_latest(tmp_path)
    add_version(tmp_path, 1)
    assert find_latest(tmp_path) == tmp_path / "1"
    (tmp_path / "latest").write_text("7\n")
    with pytest.raises(
        BundleError, match=r"latest: expected one of the versions 1, found '7'\. Export the run"
    ):
        find_latest(tmp_path)
    (tmp_path / "latest").write_text("../../etc\n")
    with pytest.raises(BundleError, match=r"expected one of the versions 1, found"):
        find_latest(tmp_path)
