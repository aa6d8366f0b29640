"""A new version is exchanged for the old one, or stays out."""

from __future__ import annotations

import asyncio
import logging
import shutil
from pathlib import Path

import pytest

from serving_compare.server.metrics import Meters
from serving_compare.server.model_slot import ModelSlot
from serving_compare.server.swap import Follower
from tests.serving_compare.server.versions import add_version


@pytest.fixture
def parts(tmp_path: Path) -> tuple[Path, ModelSlot, Follower, Meters]:
    add_version(tmp_path, 1)
    slot, meters = ModelSlot("lookup", tmp_path, follow=True), Meters()
    slot.exchange(slot.load())
    return tmp_path, slot, Follower(slot, meters), meters


def count(meters: Meters, name: str) -> float:
    meters.flush()
    value = meters.registry.get_sample_value(name)
    assert value is not None
    return value


def test_a_new_version_answers_once_it_is_proven(
    parts: tuple[Path, ModelSlot, Follower, Meters],
) -> None:
    folder, slot, follower, meters = parts
    asyncio.run(follower.look())
    assert slot.current.version == 1
    add_version(folder, 2)
    asyncio.run(follower.look())
    assert slot.current.version == 2
    assert count(meters, "gatetable_swaps_total") == 1
    assert meters.registry.get_sample_value("gatetable_model_version") == 2


def test_latest_may_go_back(parts: tuple[Path, ModelSlot, Follower, Meters]) -> None:
    folder, slot, follower, _ = parts
    add_version(folder, 2)
    asyncio.run(follower.look())
    (folder / "latest").write_text("1\n")
    asyncio.run(follower.look())
    assert slot.current.version == 1


@pytest.mark.parametrize("damaged", ["lookup/gate_table.npy", "model.onnx", "golden.jsonl"])
def test_a_damaged_version_stays_out_and_is_complained_of_once(
    parts: tuple[Path, ModelSlot, Follower, Meters],
    caplog: pytest.LogCaptureFixture,
    damaged: str,
) -> None:
    folder, slot, follower, meters = parts
    add_version(folder, 2, damaged=damaged)
    with caplog.at_level(logging.ERROR, "gatetable.server"):
        asyncio.run(follower.look())
        asyncio.run(follower.look())
    assert slot.current.version == 1
    assert count(meters, "gatetable_swap_failures_total") == 1
    (record,) = caplog.records
    assert record.getMessage() == "swap_failed"
    assert record.__dict__["fields"]["serving"] == 1
    assert f"{damaged}: expected sha256" in record.__dict__["fields"]["error"]
    add_version(folder, 3)
    asyncio.run(follower.look())
    assert slot.current.version == 3


def test_a_version_that_was_repaired_is_tried_again(
    parts: tuple[Path, ModelSlot, Follower, Meters],
) -> None:
    folder, slot, follower, _ = parts
    add_version(folder, 2, damaged="model.onnx")
    asyncio.run(follower.look())
    shutil.rmtree(folder / "2")
    add_version(folder, 2)
    asyncio.run(follower.look())
    assert slot.current.version == 2


def test_a_latest_that_names_nothing_is_complained_of_once(
    parts: tuple[Path, ModelSlot, Follower, Meters], caplog: pytest.LogCaptureFixture
) -> None:
    folder, slot, follower, _ = parts
    (folder / "latest").write_text("nine\n")
    with caplog.at_level(logging.ERROR, "gatetable.server"):
        asyncio.run(follower.look())
        asyncio.run(follower.look())
    assert [record.getMessage() for record in caplog.records] == ["latest_unusable"]
    assert slot.current.version == 1


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["saved_model", "onnx"])
def test_runtimes_with_settings_of_their_own_are_exchanged_too(
    tmp_path: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if backend == "saved_model":
        # Another test's TensorFlow may run in this process already, its threads set for good.
        for name in ("intra", "inter"):
            setter = f"tensorflow.config.threading.set_{name}_op_parallelism_threads"
            monkeypatch.setattr(setter, lambda threads: None)
    add_version(tmp_path, 1)
    slot, meters = ModelSlot(backend, tmp_path, follow=True), Meters()
    slot.exchange(slot.load())
    before = slot.current.run_texts(["stone dog"]).probabilities
    add_version(tmp_path, 2)
    asyncio.run(Follower(slot, meters).look())
    assert slot.current.version == 2
    assert slot.current.run_texts(["stone dog"]).probabilities.tolist() == before.tolist()
