"""The child process: one rung on one storage, once. It starts with nothing warmed up by another.

Children are forked from a server process that has imported TensorFlow and used none of it (see
`pipeline.ablation.measure`): a fresh one would spend 6 s on the import alone, 40 times a round.
The job and its results are JSON texts.
"""

from __future__ import annotations

import dataclasses
import json
import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import keras
import numpy as np
import psutil

from pipeline.ablation.rungs import RUNGS, Epochs, Setting
from pipeline.ablation.sample import DeliveryError, Sample, check_delivery, read_sample
from pipeline.ablation.storage import Latency, make_opener
from pipeline.ablation.waiting import measure_waiting
from pipeline.config import ModelConfig, TrainConfig
from pipeline.dataset import count_steps
from pipeline.model import build_model
from pipeline.objective import compile_model
from pipeline.service.config import ServiceConfig
from pipeline.threads import share_threads

MEMORY_INTERVAL_S = 0.01


def read_private_bytes() -> int:
    """Return the resident memory of this process that is not shared files, in bytes.

    TensorFlow's 300 MB of code come into memory page by page as they are used; counted as
    resident, they would look like memory of the pipeline.
    """
    memory = psutil.Process().memory_info()
    return int(memory.rss - getattr(memory, "shared", 0))


@contextmanager
def watch_memory() -> Iterator[list[int]]:
    """Give a list whose last element is the highest private memory in the block, in bytes."""
    highest = [read_private_bytes()]
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(MEMORY_INTERVAL_S):
            highest[0] = max(highest[0], read_private_bytes())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield highest
    finally:
        ended.set()
        thread.join()


class EpochReader:
    """Reads a rung's epochs to their end, taking times and checking what came.

    Args:
        epochs: What the rung built.
        expected: Numbers of all rows, sorted.
        rung: Name, for messages.
    """

    def __init__(self, epochs: Epochs, expected: Any, rung: str) -> None:
        self._epochs = epochs
        self._expected = expected
        self._rung = rung
        self._stream = None if epochs.steps is None else iter(epochs.dataset)
        self._done = 0
        self.padded_tokens = 0

    def read(self, started: float | None = None) -> tuple[float, float]:
        """Read the next epoch.

        Args:
            started: When it began, by `time.perf_counter`; now when absent.

        Returns:
            Seconds to the first batch, and to the end.

        Raises:
            DeliveryError: It was not each row exactly once.
        """
        started = started or time.perf_counter()
        batches = self._stream or iter(self._epochs.dataset)
        rows: list[Any] = []
        padded = 0
        first_s = None
        while self._epochs.steps is None or len(rows) < self._epochs.steps:
            try:
                ids, numbers = next(batches)
            except StopIteration:
                break
            first_s = first_s or time.perf_counter() - started
            rows.append(numbers)
            padded += ids.shape[0] * ids.shape[1]
        whole_s = time.perf_counter() - started
        self._done += 1
        self.padded_tokens = padded
        found = np.concatenate([numbers.numpy() for numbers in rows] or [np.zeros(0, np.int64)])
        check_delivery(found, self._expected, rung=self._rung, epoch=self._done)
        return first_s or whole_s, whole_s


def measure_rung(job: dict[str, Any]) -> dict[str, Any]:
    """Measure one rung on one storage, as `job` says.

    Args:
        job: `rung`, `latency` (fields, or null for the local disk), `sample` and `scratch`
            (folders), `max_rows`, `later_s` and `max_later` (stop rules of the later epochs),
            `model` and `training` (fields of their configs), `service` (address, or null),
            `steps`, `warm_steps`, `preloaded_steps` (0 steps: epochs are read; otherwise a model
            is trained from them instead).

    Returns:
        JSON values: `rows`, `first_batch_s`, `first_epoch_s`, `later_epochs_s`, `memory_bytes`,
        `padded_tokens`, and null for `waiting`; or its fields and nothing else.
    """
    sample = read_sample(Path(job["sample"]))
    model_config = ModelConfig(**job["model"])
    training = TrainConfig(**job["training"])
    share_threads(model_config.directions)
    keras.utils.set_random_seed(training.seed)
    latency = Latency(**job["latency"]) if job["latency"] else None
    rung = RUNGS[job["rung"]]
    chosen = sample.choose_shards(job["max_rows"])
    expected = sample.row_numbers(chosen)
    setting = Setting(
        shards=[sample.shards[index] for index in chosen],
        num_rows=len(expected),
        tokenizer_path=sample.tokenizer_path,
        max_tokens=sample.max_tokens,
        batch_size=training.batch_size,
        seed=training.seed,
        word_dropout=training.word_dropout,
        open_shard=make_opener(latency),
        scratch=Path(job["scratch"]),
        service=ServiceConfig(address=job["service"]) if job["service"] else None,
    )
    if job["steps"]:
        return {"waiting": _train(rung.build(setting), sample, model_config, training, job)}
    _warm_up(setting, rows=sample.shard_rows[chosen[0]])
    baseline = read_private_bytes()
    with watch_memory() as highest:
        started = time.perf_counter()
        epochs = rung.build(setting)
        reader = EpochReader(epochs, expected, rung.name)
        first_batch_s, first_epoch_s = reader.read(started)
        later_s: list[float] = []
        while not later_s or (sum(later_s) < job["later_s"] and len(later_s) < job["max_later"]):
            later_s.append(reader.read()[1])
    return {
        "rows": len(expected),
        "first_batch_s": first_batch_s,
        "first_epoch_s": first_epoch_s,
        "later_epochs_s": later_s,
        "memory_bytes": max(highest[-1] - baseline, 0),
        "padded_tokens": reader.padded_tokens,
        "waiting": None,
    }


def _warm_up(setting: Setting, *, rows: int) -> None:
    """Make one batch, so that what TensorFlow does once in a process falls on no rung.

    Its threads, lazily imported modules and the first use of every op took as long as a fast
    rung's whole epoch. Reads one shard, from the local disk, and leaves nothing behind.
    """
    small = dataclasses.replace(
        setting, shards=setting.shards[:1], num_rows=rows, open_shard=make_opener(None)
    )
    next(iter(RUNGS["window"].build(small).dataset))


def _train(
    epochs: Epochs,
    sample: Sample,
    model_config: ModelConfig,
    training: TrainConfig,
    job: dict[str, Any],
) -> dict[str, Any]:
    model = build_model(model_config, cell=training.cell)
    total_steps = training.num_epochs * count_steps(len(sample.classes), training.batch_size)
    compile_model(model, training, num_classes=model_config.num_classes, total_steps=total_steps)
    endless = epochs.dataset.repeat() if epochs.steps is None else epochs.dataset
    waiting = measure_waiting(
        endless,
        model,
        np.array(sample.classes),
        steps=job["steps"],
        warm_steps=job["warm_steps"],
        preloaded_steps=job["preloaded_steps"],
    )
    return dataclasses.asdict(waiting)


def run_job(text: str, results: Connection) -> None:
    """Do the job that the JSON `text` describes and send its results as JSON.

    A row that was not delivered exactly once is told as `{"delivery_error": message}`.
    """
    job = json.loads(text)
    # Should the parent be killed outright, nobody else would end this process.
    signal.alarm(math.ceil(job["timeout_s"]) + 5)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C: the parent has the message
    try:
        result = measure_rung(job)
    except DeliveryError as err:
        result = {"delivery_error": str(err)}
    results.send_bytes(json.dumps(result).encode())
    results.close()
