from __future__ import annotations

import threading
import time
from typing import NoReturn

import pytest

from export.store.deadline import Deadline, run_all, run_bounded
from export.store.errors import DeadlineError, StoreError


def test_the_result_of_bounded_work_is_returned() -> None:
    assert run_bounded(lambda: 7, Deadline(5)) == 7


def test_the_error_of_bounded_work_is_raised() -> None:
    def fail() -> NoReturn:
        raise StoreError("no bucket")

    with pytest.raises(StoreError, match="no bucket"):
        run_bounded(fail, Deadline(5))


def test_work_that_hangs_is_left_at_the_deadline() -> None:
    hanging = threading.Event()
    deadline = Deadline(0.3)
    deadline.doing = "s3://b/k at AWS, to read it"
    began = time.monotonic()
    with pytest.raises(
        DeadlineError,
        match="s3://b/k at AWS, to read it: expected an end within 0.3 s, found it still under",
    ):
        run_bounded(lambda: hanging.wait(60), deadline)
    assert time.monotonic() - began < 30
    with pytest.raises(DeadlineError):
        deadline.check()
    hanging.set()


def test_a_wait_beyond_the_deadline_is_not_begun() -> None:
    with pytest.raises(DeadlineError, match="within 1 s"):
        Deadline(1).sleep(5)


def test_all_tasks_run_each_once() -> None:
    done: list[int] = []
    run_all([lambda at=at: done.append(at) for at in range(50)], 4, Deadline(30))  # type: ignore[misc]
    assert sorted(done) == list(range(50))


def test_the_first_error_ends_the_rest_though_a_thread_hangs() -> None:
    hanging = threading.Event()

    def fail() -> NoReturn:
        raise StoreError("no bucket")

    later: list[int] = []
    with pytest.raises(StoreError, match="no bucket"):
        run_all(
            [lambda: hanging.wait(60) and None, fail, *[lambda: later.append(1)] * 1],
            2,
            Deadline(30),
        )
    hanging.set()


def test_tasks_that_hang_are_left_at_the_deadline() -> None:
    hanging = threading.Event()
    with pytest.raises(DeadlineError, match="within 0.3 s"):
        run_all([lambda: hanging.wait(60) and None], 1, Deadline(0.3))
    hanging.set()
