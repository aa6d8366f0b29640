"""What a training asks of the devices and processes it runs on, be it one or many.

`start_replicas` makes it, first of all that TensorFlow does. Every process of a cluster runs the
same training; the chief's run folder is the result, the others write to a temporary one. An
unfinished training's state lies with the chief, and is sent to the others when they begin.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pipeline.distributed.cluster import Cluster, StrategyKind
from pipeline.distributed.model import replicate, split_batches
from pipeline.run_folder import RunError

_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.DeadlineExceededError,
    tf.errors.CancelledError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
)
"""What waiting for a lost process ends in, by when and how it went."""
SEED_STRIDE = 1_000_003
"""Between the dropout seeds of two workers, which would otherwise drop the same units."""


START_TIMEOUT_S = 900
"""Workers of one machine wait for the one that prepares the data."""


class Replicas:
    """The devices that train one model together; of one device, every method leaves things alone.

    Args:
        strategy: How they are kept in step; None for one device.
        cluster: The processes, None for one.
    """

    def __init__(
        self, strategy: tf.distribute.Strategy | None = None, cluster: Cluster | None = None
    ) -> None:
        self.strategy = strategy
        self.cluster = cluster

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the run."""
        return self.cluster is None or self.cluster.is_chief

    @property
    def count(self) -> int:
        """Replicas of the model, over all processes."""
        return 1 if self.strategy is None else int(self.strategy.num_replicas_in_sync)

    def scope(self) -> AbstractContextManager[Any]:
        """Return the context in which a model is built, compiled and restored."""
        return nullcontext() if self.strategy is None else self.strategy.scope()

    def replicate(self, model: keras.Model) -> keras.Model:
        """Return the model that `fit` trains; call it in the scope."""
        return model if self.strategy is None else replicate(model)

    def split(self, batches: tf.data.Dataset) -> Any:
        """Return batches for `fit`: each replica gets its slice of every batch."""
        return batches if self.strategy is None else split_batches(self.strategy, batches)

    def split_validation(self, batches: tf.data.Dataset) -> dict[str, Any]:
        """Return the arguments of `fit` that make it validate on one pass over `batches`."""
        if self.strategy is None:
            return {"validation_data": batches}
        return {
            "validation_data": self.split(batches.repeat()),
            "validation_steps": int(batches.cardinality()),
        }

    def part_seeds(self, model: keras.Model) -> None:
        """Give each worker dropout masks of its own, after a fresh start and after restoring."""
        if self.cluster is None:
            return
        for value in model.variables:
            if value.path.endswith("/seed_generator_state"):
                state = value.numpy().astype(np.int64)
                state[0] = (state[0] + self.cluster.index * SEED_STRIDE) % 2**32
                value.assign(state.astype(value.numpy().dtype))

    @contextlib.contextmanager
    def place_runs(self, runs: Path) -> Iterator[Path]:
        """Give the parent of this process's run folders: `runs` to the chief, else a temporary."""
        if self.is_chief:
            yield runs
            return
        with tempfile.TemporaryDirectory(prefix="gatetable-worker-") as folder:
            yield Path(folder)

    def agree(self, is_finished: bool) -> bool:
        """Return on every process what the chief found: whether the run is finished already."""
        return bool(self._sum(np.array([is_finished and self.is_chief], np.int64))[0])

    def send_state(self, folder: Path) -> None:
        """Give every process's partial folder the state of the chief's."""
        if self.cluster is None:
            return
        files = [folder / "checkpoint.json", *sorted(folder.glob("*.weights.h5"))]
        files = [path for path in files if path.is_file()] if self.is_chief else []
        sizes = {path.name: path.stat().st_size for path in files}
        header = json.loads(self._broadcast(json.dumps(sizes).encode()))
        content = self._broadcast(b"".join(path.read_bytes() for path in files))
        if self.is_chief:
            return
        shutil.rmtree(folder)
        folder.mkdir()
        start = 0
        for name, size in header.items():
            (folder / Path(name).name).write_bytes(content[start : start + size])
            start += size

    def wait(self) -> None:
        """Return when every process has come here."""
        self._sum(np.zeros(1, np.int64))

    def _broadcast(self, content: bytes) -> bytes:
        """Return the chief's `content` on every process."""
        size = int(self._sum(np.array([len(content) if self.is_chief else 0], np.int64))[0])
        words = np.zeros(-(-size // 4), np.int32)
        if self.is_chief:
            words.view(np.uint8)[:size] = np.frombuffer(content, np.uint8)
        return self._sum(words).tobytes()[:size] if size else b""

    def _sum(self, values: np.ndarray) -> np.ndarray:
        """Add up each process's `values`."""
        if self.cluster is None:
            return values
        strategy = self.strategy
        assert strategy is not None
        local = strategy.num_replicas_in_sync // len(self.cluster.addresses)

        def give(context: tf.distribute.ValueContext) -> tf.Tensor:
            # Once a process, however many devices it has.
            is_first = context.replica_id_in_sync_group % local == 0
            return tf.constant(values if is_first else np.zeros_like(values))

        parts = strategy.experimental_distribute_values_from_function(give)
        total: np.ndarray = strategy.reduce(tf.distribute.ReduceOp.SUM, parts, axis=None).numpy()
        return total

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Turn TensorFlow's report of a lost process into an error that says what to do.

        Raises:
            RunError: Another process of the cluster is gone or not reachable.
        """
        try:
            yield
        except _LOST as err:
            if self.cluster is None:
                raise
            raise RunError(
                f"{self.cluster.name}: expected {len(self.cluster.addresses)} workers until the "
                f"end, found one of them gone ({type(err).__name__}). See the output of the "
                "others. Started again, all of them go on after the last finished epoch."
            ) from err


@contextlib.contextmanager
def _limited_wait(cluster: Cluster) -> Iterator[None]:
    """Let the block, TensorFlow's waiting for all workers, be ended by signals and by the clock.

    TensorFlow waits for an hour without a word, and keeps Python from running meanwhile: nothing
    but the system's own way of ending a process reaches it, so what to do is said beforehand.
    """
    if not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        yield
        return
    sys.stderr.write(
        f"{cluster.name}: waiting up to {START_TIMEOUT_S} s for all of "
        f"{', '.join(cluster.addresses)}. Start `train` on each with the same TF_CONFIG but for "
        "the index; if this lasts, check host, port and firewall.\n"
    )
    sys.stderr.flush()
    numbers = (signal.SIGALRM, signal.SIGTERM, signal.SIGINT)
    heard = [each for each in numbers if signal.getsignal(each) is not signal.SIG_IGN]
    handlers = [signal.signal(each, signal.SIG_DFL) for each in heard]
    signal.alarm(START_TIMEOUT_S)
    try:
        yield
    finally:
        signal.alarm(0)
        for each, handler in zip(heard, handlers, strict=True):
            signal.signal(each, handler)


def start_replicas(kind: StrategyKind, cluster: Cluster | None) -> Replicas:
    """Choose and start what the training runs on. Call it before TensorFlow does anything.

    Args:
        kind: What is wanted.
        cluster: From `read_cluster`.

    Returns:
        With several workers, when all of them have been reached.

    Raises:
        ValueError: What is wanted is not there.
        RunError: Another worker cannot be reached.
    """
    if cluster is not None and kind in ("auto", "multi_worker"):
        with Replicas(cluster=cluster).errors(), _limited_wait(cluster):
            return Replicas(tf.distribute.MultiWorkerMirroredStrategy(), cluster)
    if kind == "multi_worker":
        raise ValueError(
            "strategy: expected the variable TF_CONFIG to name at least 2 workers for "
            "multi_worker, found none. `python -m pipeline train-workers -n 2` sets it."
        )
    if kind == "none":
        return Replicas()
    # A CPU counts as several devices only where it was divided on purpose, as in tests.
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if len(devices) >= 2:
        return Replicas(tf.distribute.MirroredStrategy([device.name for device in devices]))
    if kind == "mirrored":
        raise ValueError(
            "strategy: expected at least 2 GPUs for mirrored, found "
            f"{len(tf.config.list_logical_devices('GPU'))}. Leave out --strategy, or start several "
            "processes with `python -m pipeline train-workers`."
        )
    return Replicas()
