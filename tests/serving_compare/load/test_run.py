from __future__ import annotations

import os
import time

import pytest

from serving_compare.load.arrivals import Phase, draw_arrivals
from serving_compare.load.errors import ConnectError, GeneratorError
from serving_compare.load.generator import Limits
from serving_compare.load.request import Target, format_request
from serving_compare.load.run import Load, LoadJob, choose_cores, run_load


def job(port: int, path: str = "/ok", **changes: object) -> LoadJob:
    target = Target(host="127.0.0.1", port=port, path=path)
    fields: dict[str, object] = {
        "target": target,
        "requests": [format_request(target, b'{"instances": "\xc3\xa9\xff"}')],
        "phases": [Phase(200, 0.2)],
        "limits": Limits(connections=2),
        "seed": 5,
    }
    return LoadJob(**(fields | changes))  # type: ignore[arg-type]


def test_a_process_of_its_own_records_what_was_asked_for(toy_port: int) -> None:
    recording = run_load(job(toy_port), core=None)
    assert recording.scheduled_ns.tolist() == draw_arrivals([Phase(200, 0.2)], seed=5).tolist()
    assert recording.count_statuses() == {"200": 40}
    closed = run_load(job(toy_port, phases=(), duration_s=0.1), core=choose_cores()[0])
    assert set(closed.connection.tolist()) == {0, 1}


def test_the_start_is_told_in_the_clock_of_this_process(toy_port: int) -> None:
    with Load(job(toy_port, "/delay/50"), core=None) as load:
        start_ns = load.wait_started()
        now_ns = time.perf_counter_ns()
        recording = load.wait()
    assert recording.start_ns == start_ns
    assert abs(now_ns - start_ns) < 5_000_000_000


def test_leaving_the_block_ends_the_process(toy_port: int) -> None:
    with Load(job(toy_port, phases=[Phase(10, 60.0)]), core=None) as load:
        load.wait_started()
        pid = load.pid
        began = time.monotonic()
    assert time.monotonic() - began < 30
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_server_that_is_not_there_is_told_as_in_one_process() -> None:
    with pytest.raises(ConnectError, match="127.0.0.1:1: expected a server that takes 2 conn"):
        run_load(job(1), core=None)
    with Load(job(1), core=None) as load, pytest.raises(ConnectError):
        load.wait_started()


def test_a_generator_that_fails_is_told_with_its_last_line(toy_port: int) -> None:
    with pytest.raises(GeneratorError, match="found the process ended with code 1. The last line"):
        run_load(job(toy_port, phases=[Phase(-1, 1.0)]), core=None)


def test_generator_and_server_get_the_first_and_the_last_core() -> None:
    cores = sorted(os.sched_getaffinity(0))
    assert choose_cores() == (cores[0], cores[-1])
