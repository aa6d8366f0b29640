"""One pass over a service is each row exactly once, or an error that says why: real processes."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.service.config import ServiceConfig, ServiceError

pytestmark = pytest.mark.slow

NUM_ROWS = 8000
SHARDINGS = ["dynamic", "file"]
SHORT_S = 5.0
"""Patience where it is bound to end; elsewhere the default, as a loaded machine has long pauses."""
StartService = Callable[..., AbstractContextManager[Any]]


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """8,000 short rows in 20 shards, as 500 blocks: more than is ever under way at a time.

    The label of row i is i: labels identify rows.
    """
    from pipeline.dataset import make_id_blocks
    from pipeline.shards import write_shard
    from pipeline.tokenizer import train_tokenizer

    folder = tmp_path_factory.mktemp("rows")
    texts = [f"river {i % 7} bird {i % 11}" for i in range(NUM_ROWS)]
    train_tokenizer(texts, 40, folder / "tokenizer.model")
    shards = [folder / f"train-{shard:05d}-of-00020.tfrecord" for shard in range(20)]
    for shard, path in enumerate(shards):
        labels = list(range(shard, NUM_ROWS, 20))
        write_shard(path, [texts[label].encode() for label in labels], labels)
    return make_id_blocks(shards, folder / "tokenizer.model", max_tokens=16).rebatch(16)


def distribute(
    blocks: Any,
    address: str,
    *,
    sharding: Any = "dynamic",
    num_rows: int = NUM_ROWS,
    timeout_s: float = ServiceConfig.timeout_s,
) -> Any:
    from pipeline.service.client import distribute_blocks

    config = ServiceConfig(address=address, sharding=sharding, timeout_s=timeout_s)
    return distribute_blocks(blocks, config, num_rows=num_rows)


def consume(dataset: Any, *, then: Callable[[], None] = lambda: None) -> Iterator[int]:
    """Yield the rows of one pass; call `then` behind the 20th block, with most of it to come."""
    from pipeline.service.client import service_errors

    with service_errors():
        for number, (_, labels) in enumerate(dataset):
            yield from labels.numpy().tolist()
            if number == 20:
                then()


def count_threads() -> int:
    return sum(thread.name.startswith("data-service") for thread in threading.enumerate())


@pytest.mark.parametrize("sharding", SHARDINGS)
def test_each_round_delivers_each_row_exactly_once(
    blocks: Any, service_of_two: Any, sharding: str
) -> None:
    remote = distribute(blocks, service_of_two.address, sharding=sharding)
    assert remote.element_spec == blocks.element_spec
    ids_of = {
        label: row
        for ids, labels in blocks
        for row, label in zip(ids.to_list(), labels.numpy().tolist(), strict=True)
    }
    seen: Counter[int] = Counter()
    for ids, labels in remote.repeat(2):
        seen.update(labels.numpy().tolist())
        assert ids.to_list() == [ids_of[label] for label in labels.numpy().tolist()]
    assert seen == Counter(dict.fromkeys(range(NUM_ROWS), 2))


def test_two_trainings_at_once_get_a_whole_pass_each(blocks: Any, service_of_two: Any) -> None:
    """By turns, from one service, of equal datasets: nothing is shared between them."""
    passes = [iter(distribute(blocks, service_of_two.address)) for _ in range(2)]
    seen: list[list[int]] = [[], []]
    waiting = [0, 1]
    while waiting:
        for number in tuple(waiting):
            block = next(passes[number], None)
            if block is None:
                waiting.remove(number)
            else:
                seen[number] += block[1].numpy().tolist()
    assert [sorted(rows) for rows in seen] == [list(range(NUM_ROWS))] * 2


def test_a_consumer_that_stops_early_leaves_no_thread(blocks: Any, service_of_two: Any) -> None:
    before = count_threads()
    assert len(list(distribute(blocks, service_of_two.address).take(3))) == 3
    deadline = time.monotonic() + 20
    while count_threads() > before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert count_threads() == before


@pytest.mark.parametrize("sharding", SHARDINGS)
def test_a_worker_that_dies_and_returns_makes_no_pass_that_is_silently_wrong(
    blocks: Any, service_of_two: Any, sharding: str
) -> None:
    def kill_and_await_return() -> None:
        os.kill(service_of_two.workers[1], signal.SIGKILL)
        service_of_two.wait_for("died with exit code -9 (SIGKILL). It is started anew.")
        service_of_two.wait_for("All ready")

    remote = distribute(blocks, service_of_two.address, sharding=sharding, timeout_s=SHORT_S)
    seen: Counter[int] = Counter()
    try:
        for row in consume(remote, then=kill_and_await_return):
            seen[row] += 1
    except ServiceError as err:
        assert re.search("expected a (block|pass) of .*Run the same command", str(err))
        assert seen.total() <= NUM_ROWS
    else:  # it died before it had taken a shard
        assert seen == Counter(range(NUM_ROWS))
    if sharding == "dynamic":
        assert max(seen.values()) == 1  # at most once, even over a lost worker


def test_a_pass_of_too_many_rows_is_an_error_before_one_more_is_delivered(
    blocks: Any, service_of_two: Any
) -> None:
    seen: list[int] = []
    message = "expected a pass of 7,999 rows, found more: a worker was lost, came back and began"
    with pytest.raises(ServiceError, match=message):
        for row in consume(distribute(blocks, service_of_two.address, num_rows=NUM_ROWS - 1)):
            seen.append(row)
    assert len(seen) == len(set(seen)) <= NUM_ROWS - 1


def test_keras_fit_ends_with_the_error_of_a_short_pass(blocks: Any, service_of_two: Any) -> None:
    import keras

    from pipeline.service.client import service_errors

    remote = distribute(blocks, service_of_two.address, num_rows=NUM_ROWS + 1)
    batches = remote.rebatch(500).map(lambda ids, labels: (ids.to_tensor(), labels % 2))
    model = keras.Sequential(
        [
            keras.layers.Embedding(40, 4),
            keras.layers.GlobalMaxPooling1D(),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    model.compile(loss="sparse_categorical_crossentropy")
    message = "expected a pass of 8,001 rows, found 8,000: a worker was lost, and the rows of the"
    with pytest.raises(ServiceError, match=message), service_errors():
        model.fit(batches.repeat(), steps_per_epoch=40, shuffle=False, verbose=0)


def test_shards_that_workers_cannot_read_are_an_error(
    blocks: Any, service_of_two: Any, tmp_path: Path
) -> None:
    import tensorflow as tf

    missing = tf.data.Dataset.from_tensor_slices([str(tmp_path / "none")]).interleave(
        tf.data.TFRecordDataset
    )
    unreadable = missing.batch(1).map(lambda rows: (tf.strings.length(rows), rows))
    with pytest.raises(ServiceError, match="the pass failed after 0 of 8,000 rows: NotFoundError"):
        list(consume(distribute(unreadable, service_of_two.address)))


def test_other_errors_of_tensorflow_stay_what_they_are() -> None:
    import tensorflow as tf

    from pipeline.service.client import service_errors

    with pytest.raises(tf.errors.InvalidArgumentError), service_errors():
        tf.reshape([1, 2, 3], [2])


def test_addresses_without_a_dispatcher_are_refused_at_once(
    blocks: Any, service_of_two: Any, free_ports: Callable[[int], int]
) -> None:
    started = time.monotonic()
    with pytest.raises(ServiceError, match="expected a dispatcher there, found nothing that acc"):
        distribute(blocks, f"grpc://127.0.0.1:{free_ports(1)}")
    worker = service_of_two.address.rpartition(":")
    with pytest.raises(ServiceError, match="a tf.data dispatcher that takes the input pipeline"):
        distribute(blocks, f"{worker[0]}:{int(worker[2]) + 1}")
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(ServiceError, match="found a port that did not answer as one for 1 s"),
    ):
        distribute(blocks, f"grpc://127.0.0.1:{silent.getsockname()[1]}", timeout_s=1)
    assert time.monotonic() - started < 20


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def kill(service: Any) -> None:
    """Kill the command, and see its only worker end by itself."""
    service.process.kill()
    deadline = time.monotonic() + 20
    while is_running(service.workers[1]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(service.workers[1])


def test_machines_that_are_lost_are_an_error_within_seconds_and_leave_no_process(
    blocks: Any, free_ports: Callable[[int], int], start_data_service: StartService
) -> None:
    """One machine brings a dispatcher and a worker, the other a worker; `kill -9` takes both."""
    port = free_ports(2)
    with ExitStack() as started:
        here = ("--workers", "1", "--remote-worker", f"127.0.0.1:{port + 1}")
        first = started.enter_context(start_data_service(*here))
        first.wait_for("dispatcher (")
        there = ("--port", str(port), "--workers", "1")
        second = started.enter_context(start_data_service(*there, dispatcher=first.address))
        first.wait_for("All ready")
        second.wait_for("All ready")
        rows = list(consume(distribute(blocks, first.address)))
        assert sorted(rows) == list(range(NUM_ROWS))

        # Dealt out beforehand, so that the lost worker is sure to have had rows to deliver.
        for lost, sharding, timeout_s, message in (
            (
                second,
                "file",
                SHORT_S,
                r"a block of rows within 5 s, found none after .* rows, though",
            ),
            (
                first,
                "dynamic",
                3 * SHORT_S,  # the dispatcher, which misses a worker, is slow to answer at first
                r"expected a dispatcher there.*It was lost after .* of 8,000 rows",
            ),
        ):
            begun = time.monotonic()
            with pytest.raises(ServiceError, match=message):
                remote = distribute(blocks, first.address, sharding=sharding, timeout_s=timeout_s)
                list(consume(remote, then=partial(kill, lost)))
            assert time.monotonic() - begun < 60
