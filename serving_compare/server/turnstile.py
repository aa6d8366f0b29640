"""Who is computed next: first come, first served, one wave of requests at a time.

A wave is one request, or several where micro-batching is on. Between two waves the event loop goes
round once, so that it reads its sockets and refuses what must be refused while the model is slow.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque

WEIGHT = 0.1
"""Of the newest wave in the running mean: about the last ten waves count."""


class Turnstile:
    """The queue in front of one model. Belongs to one event loop.

    Args:
        wave_size: Requests that may be inside at the same time.

    Attributes:
        wave_s: Running mean of the seconds from one wave's turn to the next one's.
    """

    def __init__(self, wave_size: int = 1) -> None:
        self._wave_size = wave_size
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._inside = 0
        self._is_open = True
        self._has_computed = False
        self._began_s = 0.0
        self.wave_s = 0.0

    @property
    def waiting(self) -> int:
        """Requests that wait for their turn."""
        return len(self._waiting)

    def predict_wait_s(self) -> float:
        """Return how long a request that comes now will likely wait, in seconds.

        What is inside is not counted: it is computed without giving the loop back, so whoever
        asks here asks when it is done.
        """
        return len(self._waiting) // self._wave_size * self.wave_s

    async def enter(self) -> None:
        """Wait for the turn. Everyone who has entered must `leave`."""
        if self._is_open:
            self._is_open = False
            self._inside = 1
            self._began_s = time.monotonic()
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave(computed=False)  # it was let in and cancelled before it could start
            else:
                self._waiting.remove(turn)
            raise

    def leave(self, *, computed: bool) -> None:
        """Give the turn back; `computed` says whether the time it took is worth remembering."""
        self._inside -= 1
        self._has_computed |= computed
        if self._inside:
            return
        if self._has_computed:
            self._has_computed = False
            took_s = time.monotonic() - self._began_s
            self.wave_s += WEIGHT * (took_s - self.wave_s) if self.wave_s else took_s
        if self._waiting:
            self._admit()
        else:
            # Not open at once: whoever is about to run in this round of the loop queues up, and
            # the sockets are read before the next turn.
            asyncio.get_running_loop().call_soon(self._admit)

    def _admit(self) -> None:
        self._began_s = time.monotonic()
        while self._waiting and self._inside < self._wave_size:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                self._inside += 1
        self._is_open = not self._inside
