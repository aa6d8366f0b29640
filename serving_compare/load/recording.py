"""What one run of the generator saw, request by request, and how it is kept in a file.

Times are int64 ns from the start of the run, in the clock of `time.perf_counter_ns`, which on
Linux is one for the whole machine: what another process did then can be laid beside them.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from serving_compare.whole_file import open_whole

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Times = NDArray[np.int64]
    Mask = NDArray[np.bool_]


class Failure(enum.IntEnum):
    """Why a request has no HTTP status. Below zero, so that one array holds both."""

    UNANSWERED = -1
    """The server read the whole request and closed the connection without a word."""
    NOT_READ = -2
    """The connection was closed or reset with the request unread: nobody ever accepted it."""
    NOT_CONNECTED = -3
    """No connection could be opened."""
    TIMEOUT = -4
    """No answer in time."""
    CUT_OFF = -5
    """The connection ended in the middle of an answer."""
    MALFORMED = -6
    """What came is not HTTP."""


REFUSALS = (429, 503)
"""Answers by which a server says, cleanly, that it does not take the request."""


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One run, one entry a request in the order of sending.

    Attributes:
        start_ns: `perf_counter_ns` of time 0.
        scheduled_ns: When the request was due. In a closed loop: when it was sent.
        available_ns: When it could be sent: when due, or when a connection became free.
        sent_ns: Right before its first byte was handed to the system.
        first_ns: Right after the first bytes of the answer were read; 0 where none came.
        last_ns: Right after the last bytes were read, or when it failed.
        status: HTTP status, or a `Failure`.
        connection: Number of its connection; a new one gets the next number.
    """

    start_ns: int
    scheduled_ns: Times
    available_ns: Times
    sent_ns: Times
    first_ns: Times
    last_ns: Times
    status: Times
    connection: Times

    def __len__(self) -> int:
        """Number of requests."""
        return len(self.status)

    @property
    def latency_ns(self) -> Times:
        """From when the request was due to the end of the answer: what a user would feel."""
        return self.last_ns - self.scheduled_ns

    @property
    def service_ns(self) -> Times:
        """From when the request was sent: what a client would report that sends late."""
        return self.last_ns - self.sent_ns

    @property
    def lag_ns(self) -> Times:
        """How late the generator itself was, waits for a free connection not counted."""
        return self.sent_ns - self.available_ns

    @property
    def is_ok(self) -> Mask:
        """Answered with 200 to 299."""
        return (self.status >= 200) & (self.status < 300)

    @property
    def is_refused(self) -> Mask:
        """Cleanly refused: 429 or 503."""
        return np.isin(self.status, REFUSALS)

    @property
    def is_error(self) -> Mask:
        """Neither answered nor cleanly refused."""
        return ~(self.is_ok | self.is_refused)

    @property
    def waited(self) -> int:
        """How many requests were due while every connection was busy."""
        return int((self.available_ns > self.scheduled_ns).sum())

    def count_statuses(self) -> dict[str, int]:
        """Return status or name of failure to how often it came, most frequent first."""
        values, counts = np.unique(self.status, return_counts=True)
        pairs = sorted(zip(values.tolist(), counts.tolist(), strict=True), key=lambda p: -p[1])
        return {name_status(value): count for value, count in pairs}

    def select(self, mask: Mask) -> Recording:
        """Return the requests where `mask` is true."""
        arrays = {name: array[mask] for name, array in self.arrays().items()}
        return Recording(start_ns=self.start_ns, **arrays)

    def arrays(self) -> dict[str, Times]:
        """Return the arrays by name."""
        return {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name != "start_ns"
        }


def name_status(status: int) -> str:
    """Return "200" for 200 and "unanswered" for -1."""
    return str(status) if status > 0 else Failure(status).name.lower().replace("_", " ")


def write_recording(path: Path, recording: Recording) -> None:
    """Write a .npz file, in one rename; inverse of `read_recording`."""
    with open_whole(path) as file:
        np.savez(
            file,
            allow_pickle=False,
            start_ns=np.int64(recording.start_ns),
            **recording.arrays(),
        )


def read_recording(path: Path) -> Recording:
    """Read what `write_recording` wrote."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        arrays: Mapping[str, Times] = {name: stored[name] for name in stored.files}
    start_ns = int(arrays["start_ns"])
    return Recording(
        start_ns=start_ns, **{name: array for name, array in arrays.items() if name != "start_ns"}
    )
