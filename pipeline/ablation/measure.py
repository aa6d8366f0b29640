"""Runs the ladder: a fresh child process for every rung on every storage, round after round."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.ablation.schedule import (
    PRODUCT,
    YARDSTICK,
    Profile,
    Task,
    is_training_due,
    make_round,
    order_training,
)
from pipeline.config import ModelConfig, TrainConfig
from pipeline.data_folder import PreparedData
from pipeline.run_folder import import_tensorflow

END_TIMEOUT_S = 30.0
"""A data service ends within a second on an idle machine; behind this it is killed."""


class AblationError(Exception):
    """A check failed: a rung did not deliver each row once, or a child could not finish."""


@contextmanager
def run_service() -> Iterator[str]:
    """Start a tf.data service of two workers on loopback; give its address.

    Raises:
        AblationError: It did not start.
    """
    port = _find_free_ports(3)
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline.ablation.serve", str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    lines = []
    try:
        for line in process.stdout:  # ends when the process does
            lines.append(line.strip())
            if "All ready" in line:
                break
        else:
            raise AblationError(
                "data service: expected two ready workers, found that it ended: "
                f"{' '.join(lines)[-300:]} Leave it out with --rungs, or look at "
                "`make data-service`."
            )
        yield f"grpc://127.0.0.1:{port}"
    finally:
        process.stdin.close()
        try:
            process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def _find_free_ports(count: int) -> int:
    """Return the first of `count` neighbouring ports that are free now."""
    while True:
        with ExitStack() as held:
            server = held.enter_context(socket.create_server(("127.0.0.1", 0)))
            first = int(server.getsockname()[1])
            try:
                for port in range(first + 1, first + count):
                    held.enter_context(socket.create_server(("127.0.0.1", port)))
            except (OSError, OverflowError):
                continue  # a neighbour is taken, or there is none
            return first


class Children:
    """Starts one child process at a time from a server that has TensorFlow imported.

    Forked before TensorFlow has started a thread or a session, a child is as fresh as a new
    process and has not spent seconds on the import.
    """

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(
            # The command's own module too, because every child imports its parent's.
            ["pipeline.ablation.preload", "pipeline.ablation.worker", "pipeline.__main__"]
        )

    def run(self, job: dict[str, Any]) -> dict[str, Any]:
        """Run one job to its end.

        Raises:
            AblationError: A row was not delivered exactly once, the child died or took too long.
        """
        from pipeline.ablation.worker import run_job

        receiver, sender = self._context.Pipe(duplex=False)
        child = self._context.Process(target=run_job, args=(json.dumps(job), sender), daemon=True)
        child.start()
        sender.close()
        what = f"rung {job['rung']} on {job['storage']} storage"
        try:
            if not receiver.poll(job["timeout_s"]):
                raise AblationError(
                    f"{what}: expected a result within {job['timeout_s']:g} s, found none. The "
                    "machine may be too busy; leave the rung out with --rungs, or use --quick."
                )
            result: dict[str, Any] = json.loads(receiver.recv_bytes())
        except EOFError as err:
            child.join()
            raise AblationError(
                f"{what}: expected a result, found that the process died with exit code "
                f"{child.exitcode}. Its output above says why; -9 means that memory ran out."
            ) from err
        finally:
            receiver.close()
            if child.is_alive():
                child.join(5)  # it has sent its result and ends by itself, or
                child.kill()
            child.join()
        if "delivery_error" in result:
            raise AblationError(result["delivery_error"])
        return result


def measure(
    data: PreparedData,
    *,
    rungs: Sequence[str],
    latencies: dict[str, dict[str, Any] | None],
    profile: Profile,
    seed: int,
    model: ModelConfig,
    training: TrainConfig,
    scratch: Path,
    advance: Callable[[str, int, int], None],
) -> dict[str, Any]:
    """Measure the ladder.

    Args:
        data: Its training split is read.
        rungs: Names, `naive` among them.
        latencies: Storage name to fields of its `Latency`, None for the local disk.
        profile: How thorough.
        seed: Of the order of the children.
        model: The model that trains.
        training: How it trains; its batch size is that of every rung.
        scratch: An empty folder on the local disk: the sample and all caches.
        advance: Called before each child with what is done, the number of children done, and the
            number of children of this round.

    Returns:
        JSON values: `measurements` (one an ended child, with `round`, `rung`, `storage` and the
        worker's results), `calibration` (storage to what a read should cost and cost),
        `sample_rows`, `seconds`.

    Raises:
        AblationError: See `Children.run` and `run_service`.
    """
    started = time.monotonic()
    import_tensorflow()  # quietly, before the server and this process need it
    from pipeline.ablation.sample import write_sample

    folder = scratch / "sample"
    folder.mkdir()
    advance("numbering rows", 0, 1)
    sample = write_sample(data, folder, max_rows=profile.max_rows)
    children = Children()
    measurements: dict[Task, dict[str, Any]] = {}

    def run(task: Task, service: str | None, steps: int) -> dict[str, Any]:
        caches = scratch / "caches"
        caches.mkdir()
        result = children.run(
            {
                **asdict(task),
                "latency": latencies[task.storage],
                "sample": str(folder),
                "scratch": str(caches),
                "max_rows": profile.element_rows if _is_per_element(task.rung) else sys.maxsize,
                "later_s": profile.later_s,
                "max_later": profile.max_later,
                "model": model.to_json(),
                "training": training.to_json(),
                "service": service,
                "warm_steps": profile.warm_steps,
                "preloaded_steps": profile.steps,
                "steps": steps,
                "timeout_s": profile.timeout_s,
            }
        )
        shutil.rmtree(caches)
        return result

    def run_all(service: str | None) -> None:
        storages = list(latencies)
        for number in range(profile.rounds):
            tasks = make_round(rungs, storages, number=number, seed=seed)
            for done, task in enumerate(tasks):
                advance(f"round {number + 1}: {task.rung}, {task.storage}", done, len(tasks))
                measurements[task] = {**asdict(task), **run(task, service, steps=0)}
        pairs = order_training(rungs, storages, is_all=profile.is_training_all)
        longest_s = 0.0
        for done, (rung, storage) in enumerate(pairs):
            begun = time.monotonic()
            if not is_training_due(
                rung, elapsed_s=begun - started, longest_s=longest_s, limit_s=profile.limit_s
            ):
                continue
            advance(f"training: {rung}, {storage}", done, len(pairs))
            task = Task(round=0, rung=rung, storage=storage)
            steps = profile.product_steps if rung == PRODUCT else profile.steps
            measurements[task].update(run(task, service, steps))
            if rung not in (PRODUCT, YARDSTICK):  # the default trains many times as long
                longest_s = max(longest_s, time.monotonic() - begun)

    if "service" in rungs:
        advance("starting the data service", 0, 1)
        with run_service() as address:
            run_all(address)
    else:
        run_all(None)
    return {
        "sample_rows": len(sample.classes),
        "calibration": _calibrate(sample.shards[0], sample.shard_rows[0], latencies),
        "measurements": list(measurements.values()),
        "seconds": time.monotonic() - started,
    }


def _is_per_element(rung: str) -> bool:
    from pipeline.ablation.rungs import RUNGS

    return RUNGS[rung].per_element


def _calibrate(
    shard: Path, rows: int, latencies: dict[str, dict[str, Any] | None]
) -> dict[str, Any]:
    """Read one shard in sequence from each storage: what it asks for, and what it takes."""
    from pipeline.ablation.storage import Latency, make_opener

    calibration = {}
    for storage, fields in latencies.items():
        latency = None if fields is None else Latency(**fields)
        records = make_opener(latency)(str(shard)).batch(rows)
        found_s = []
        for _ in range(3):  # the first starts TensorFlow
            begun = time.perf_counter()
            for _ in records:
                pass
            found_s.append(time.perf_counter() - begun)
        calibration[storage] = {
            "rows": rows,
            "delay_s": 0.0 if latency is None else latency.expect_s(rows),
            "found_s": statistics.median(found_s),
        }
    return calibration
