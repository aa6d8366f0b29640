"""Who is computed next: first come, first served, in waves.

A wave is what is computed before the event loop goes round again, reads its sockets and refuses
what must be refused. Slow requests are waves of one, so that refusals stay fast; quick ones go
several at a time, as a round of the loop costs about as much as one of them. With micro-batching a
wave is one call of the model.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque

ROUND_S = 0.001
"""What a wave should take at most."""
LARGEST_WAVE = 8
WEIGHT = 0.1
"""Of the newest wave in the running mean: about the last ten waves count."""


class Turnstile:
    """The queue in front of one model. Belongs to one event loop.

    Args:
        wave_size: Requests of a wave, where they are computed together; below 2, waves are as
            large as `ROUND_S` allows, and their requests are computed one after the other.

    Attributes:
        request_s: Running mean of the seconds one request takes, refusals meanwhile included. Times
            those waiting it is the wait ahead: what is inside is computed without giving the loop
            back, so whoever asks, asks when it is done.
    """

    def __init__(self, wave_size: int = 0) -> None:
        self._fixed_size = wave_size
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._inside = 0
        self._computed = 0
        self._is_open = True
        self._began_s = 0.0
        self.request_s = 0.0

    @property
    def waiting(self) -> int:
        """Requests that wait for their turn."""
        return len(self._waiting)

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
            if turn.cancelled():
                self._waiting.remove(turn)
            else:
                self.leave(computed=False)  # it was let in, and cancelled before it could start
            raise

    def leave(self, *, computed: bool) -> None:
        """Give the turn back; `computed` says whether the time it took is worth remembering."""
        self._inside -= 1
        self._computed += computed
        if self._inside:
            return
        if self._computed:
            took_s = (time.monotonic() - self._began_s) / self._computed
            self._computed = 0
            self.request_s += WEIGHT * (took_s - self.request_s) if self.request_s else took_s
        if self._waiting:
            self._admit()
        else:
            # Not open at once: whoever is about to run in this round of the loop queues up, and
            # the sockets are read before the next wave.
            asyncio.get_running_loop().call_soon(self._admit)

    def _admit(self) -> None:
        self._began_s = time.monotonic()
        size = self._fixed_size
        if size < 2:
            size = min(LARGEST_WAVE, int(ROUND_S / self.request_s) if self.request_s else 1)
        while self._waiting and self._inside < max(1, size):
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                self._inside += 1
        self._is_open = not self._inside
