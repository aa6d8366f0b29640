"""A total time for work on a network, kept whatever the other side does.

A server can hold a socket open for ever by sending a byte now and then, and looking up a name ends
when the system's resolver gives up. So the work is done in daemon threads, and the thread that
asked waits for them no longer than it said.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from export.store.errors import DeadlineError

Result = TypeVar("Result")
_LOOK_S = 0.2
"""How often a waiting thread looks whether to go on; also how soon Ctrl-C is noticed."""


def read_clock() -> float:
    """Return seconds that go on while the machine sleeps, where the system counts them.

    Who sleeps through its deadline must not go on as if no time had passed: others rely on it.
    """
    boot = getattr(time, "CLOCK_BOOTTIME", None)  # Linux; macOS has none, its monotonic() pauses
    return time.monotonic() if boot is None else time.clock_gettime(boot)


class Deadline:
    """The seconds that a command may take. Safe to share between threads.

    Args:
        seconds: Counted from now.

    Attributes:
        doing: What was begun last, for the message when time is up.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.doing = "store"
        self._end = read_clock() + seconds
        self._stopped = threading.Event()

    def remaining(self) -> float:
        """Return the seconds left, not below 0."""
        return max(0.0, self._end - read_clock())

    def stop(self) -> None:
        """Make every thread of this work end at its next look."""
        self._stopped.set()

    def error(self) -> DeadlineError:
        """Return the error that time is up."""
        return DeadlineError(
            f"{self.doing}: expected an end within {self.seconds:g} s, found it still under way. "
            "What was finished is kept: run the command again, with a longer --deadline."
        )

    def check(self) -> None:
        """Raise once time is up or the work was stopped.

        Raises:
            DeadlineError: It is.
        """
        if self._stopped.is_set() or not self.remaining():
            raise self.error()

    def sleep(self, seconds: float) -> None:
        """Wait, or raise at once where the time left is shorter than that.

        Raises:
            DeadlineError: Time is up, or would be.
        """
        if seconds >= self.remaining() or self._stopped.wait(seconds):
            raise self.error()


def run_bounded(function: Callable[[], Result], deadline: Deadline) -> Result:
    """Return what `function` returns, or raise what it raises, within the deadline.

    Raises:
        DeadlineError: It was still at work; its thread is told to end and not waited for.
    """
    results: queue.SimpleQueue[Result] = queue.SimpleQueue()
    errors: queue.SimpleQueue[BaseException] = queue.SimpleQueue()

    def work() -> None:
        try:
            results.put(function())
        except BaseException as err:  # noqa: BLE001  (raised again by the thread that waits)
            errors.put(err)

    thread = threading.Thread(target=work, daemon=True, name="store")
    thread.start()
    try:
        while thread.is_alive() and deadline.remaining():
            thread.join(min(_LOOK_S, deadline.remaining()))
    finally:
        deadline.stop()
    if not errors.empty():
        raise errors.get()
    if not results.empty():
        return results.get()
    raise deadline.error()


def run_all(tasks: Iterable[Callable[[], None]], threads: int, deadline: Deadline) -> None:
    """Run every task, several at a time; the first error ends the rest and is raised.

    Raises:
        DeadlineError: Time was up before the last one ended.
    """
    waiting: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    for task in tasks:
        waiting.put(task)
    errors: queue.SimpleQueue[BaseException] = queue.SimpleQueue()

    def work() -> None:
        try:
            while errors.empty():
                deadline.check()
                waiting.get_nowait()()
        except queue.Empty:
            return
        except BaseException as err:  # noqa: BLE001  (raised again by the thread that waits)
            errors.put(err)

    workers = [threading.Thread(target=work, daemon=True) for _ in range(threads)]
    for worker in workers:
        worker.start()
    # The one error is raised at once: a thread that is stuck in a socket is not waited for.
    while errors.empty() and (busy := [worker for worker in workers if worker.is_alive()]):
        deadline.check()
        busy[0].join(_LOOK_S)
    if not errors.empty():
        raise errors.get()
