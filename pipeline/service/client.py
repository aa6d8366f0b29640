"""Blocks of rows read through a tf.data service, under a watchdog.

TensorFlow's own client waits for an hour for a worker that is gone, and ends a pass early, without
a word, when a worker came back without the rows it had taken. Here one pass is each row exactly
once, or a `ServiceError` that says what happened: the service is read by a thread of its own, and
whoever consumes the dataset waits for that thread with a clock, and counts rows.

The error has to travel through TensorFlow, which only keeps its text: `service_errors` turns it
back into the exception it was.
"""

from __future__ import annotations

import contextlib
import queue
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from pipeline.service.config import ServiceConfig, ServiceError

WAITING_BLOCKS = 8
"""Blocks of 8,192 rows held ready: enough to bridge a pause of the network, 0.5 MB each."""
PROBE_S = 2.0
"""Seconds of waiting between two looks at the dispatcher's port."""
FIRST_BLOCK_EXTRA_S = 6.0
"""A pass begins with the workers loading the graph and the tokenizer's model."""
_POLICIES = {
    "dynamic": tf.data.experimental.service.ShardingPolicy.DYNAMIC,
    "file": tf.data.experimental.service.ShardingPolicy.FILE,
}
_AGAIN = "Run the same command again: training goes on from its checkpoint."

_raised: list[ServiceError] = []
"""The last error that went into TensorFlow, for `service_errors` to find."""


def distribute_blocks(
    blocks: tf.data.Dataset, service: ServiceConfig, *, num_rows: int
) -> tf.data.Dataset:
    """Let the workers of a service make the blocks.

    Args:
        blocks: Yields tuples whose last part is (b,) labels. Its source is a list of shard paths,
            which is what the service splits; every worker must be able to read them.
        service: Which service, and how it splits.
        num_rows: N, the rows of one whole pass.

    Returns:
        Yields blocks like those of `blocks`, in no fixed order. Each new iterator (each round of
        `repeat`) is one pass of its own, shared with nobody: each of the N rows exactly once, or
        an error, out of which `service_errors` makes a `ServiceError`.

    Raises:
        ServiceError: Nothing listens at the address, or what does is no dispatcher.
    """
    if not service.is_reachable:
        raise ServiceError(_describe_unreachable(service))
    registration: queue.Queue[tf.data.Dataset | Exception] = queue.Queue()

    def register() -> None:
        try:
            # No job name: anonymous passes are never shared between two trainings.
            registration.put(
                blocks.apply(
                    tf.data.experimental.service.distribute(
                        _POLICIES[service.sharding], service.address
                    )
                )
            )
        except tf.errors.OpError as err:
            registration.put(err)

    # In a thread, because TensorFlow asks again for an hour where something else listens.
    threading.Thread(target=register, name="data-service-register", daemon=True).start()
    try:
        remote = registration.get(timeout=service.timeout_s)
    except queue.Empty:
        raise ServiceError(
            f"data service {service.address}: expected a tf.data dispatcher, found a port that "
            f"did not answer as one for {service.timeout_s:g} s. Pass the address that "
            "`make data-service` prints."
        ) from None
    if isinstance(remote, Exception):
        raise ServiceError(
            f"data service {service.address}: expected a tf.data dispatcher that takes the input "
            f"pipeline, found: {_describe(remote)} Pass the address that `make data-service` "
            "prints."
        ) from remote

    def read_pass() -> Iterator[Any]:
        try:
            yield from _read_pass(remote, service, num_rows)
        except ServiceError as err:
            _raised[:] = [err]
            raise

    return tf.data.Dataset.from_generator(read_pass, output_signature=blocks.element_spec)


@contextlib.contextmanager
def service_errors() -> Iterator[None]:
    """Turn TensorFlow's report of a `ServiceError` back into that error.

    Put it around whatever consumes a dataset of `distribute_blocks`, Keras `fit` for example.

    Raises:
        ServiceError: A pass over the service failed.
    """
    try:
        yield
    except tf.errors.OpError as err:
        for error in _raised:
            if str(error) in str(err.message):
                raise error from err
        raise


def _read_pass(remote: tf.data.Dataset, service: ServiceConfig, num_rows: int) -> Iterator[Any]:
    """Yield the blocks of one pass, counted, each waited for no longer than the service allows."""
    blocks: queue.Queue[Any] = queue.Queue(WAITING_BLOCKS)
    stopped = threading.Event()

    def fetch() -> None:
        try:
            for block in remote:
                blocks.put(block)
                if stopped.is_set():
                    return
            blocks.put(None)
        except tf.errors.OpError as err:
            blocks.put(err)

    threading.Thread(target=fetch, name="data-service-pass", daemon=True).start()
    rows = 0
    patience_s = service.timeout_s + FIRST_BLOCK_EXTRA_S
    try:
        while True:
            progress = f"after {rows:,} of {num_rows:,} rows"
            block = _wait_for_block(blocks, service, patience_s, progress)
            if block is None:
                break
            rows += int(block[-1].shape[0])
            if rows > num_rows:
                break
            yield block
            patience_s = service.timeout_s
    finally:
        stopped.set()
        with contextlib.suppress(queue.Empty):
            blocks.get_nowait()  # room for the thread, should it wait to put one more
    if rows != num_rows:
        raise ServiceError(
            f"data service {service.address}: expected a pass of {num_rows:,} rows, found "
            f"{'more' if rows > num_rows else f'{rows:,}'}: a worker was lost, "
            + (
                "came back and began its shards anew. "
                if rows > num_rows
                else "and the rows of the shards it had taken with it. "
            )
            + _AGAIN
        )


def _wait_for_block(
    blocks: queue.Queue[Any], service: ServiceConfig, patience_s: float, progress: str
) -> Any:
    """Return the next block, or None behind the last one."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            block = blocks.get(timeout=max(0.0, min(PROBE_S, deadline - time.monotonic())))
        except queue.Empty:
            if not service.is_reachable:
                raise ServiceError(
                    f"{_describe_unreachable(service)} It was lost {progress}. {_AGAIN}"
                ) from None
            if time.monotonic() < deadline:
                continue
            raise ServiceError(
                f"data service {service.address}: expected a block of rows within "
                f"{patience_s:g} s, found none {progress}, though the dispatcher answers: a worker "
                "died or is stuck, or none was ever started. The service's own output says which; "
                f"start it anew if need be. {_AGAIN}"
            ) from None
        if isinstance(block, tf.errors.OpError):
            raise ServiceError(
                f"data service {service.address}: the pass failed {progress}: "
                f"{_describe(block)} {_AGAIN}"
            ) from block
        return block


def _describe_unreachable(service: ServiceConfig) -> str:
    return (
        f"data service {service.address}: expected a dispatcher there, found nothing that accepts "
        "a connection. Start one with `make data-service`, or check address and firewall."
    )


def _describe(err: tf.errors.OpError) -> str:
    """Return what TensorFlow says, without the names of its graph nodes, as one sentence."""
    first_line = str(err.message).strip().partition("\n")[0]
    text = re.sub(r"\{\{.*?\}\}|\[Op:.*?\]", "", first_line).strip(" .:")
    return f"{type(err).__name__}, {text}."
