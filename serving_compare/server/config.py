"""Settings of the server: what a worker process is told, and the limits requests are held to.

Both travel from the supervisor to its workers as one line of JSON.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Self


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request, and all requests together, may ask of a worker.

    Attributes:
        max_body_bytes: Longer bodies are refused with 413.
        max_batch: Texts or rows of ids in one request.
        max_tokens: Ids of one row, or None for the artifact's own limit. Longer texts are cut;
            longer rows of ids are refused.
        queue_size: Requests that may wait while one is computed; more are refused with 429.
        max_wait_ms: A request that would wait, or has waited, longer is refused with 429.
        deadline_ms: A request that has not begun to be computed so long after its body came is
            answered with 504.
        body_timeout_ms: A body that is not complete so long after its head is answered with 408.
        head_timeout_ms: A connection whose next head is not complete in time is closed.
        max_connections: Open connections of one worker; more are closed at once.
        micro_batch: Waiting requests that are computed in one call of the model; 0 is off.
    """

    max_body_bytes: int = 2**20
    max_batch: int = 256
    max_tokens: int | None = None
    queue_size: int = 64
    max_wait_ms: float = 15.0
    deadline_ms: float = 1000.0
    body_timeout_ms: float = 5000.0
    head_timeout_ms: float = 5000.0
    max_connections: int = 4096
    micro_batch: int = 0


class Sibling(NamedTuple):
    """One backend's address; the page asks all of them side by side."""

    backend: str
    url: str


@dataclass(frozen=True, kw_only=True)
class WorkerConfig:
    """Everything one worker process needs to know.

    Attributes:
        backend: Name out of `serving_compare.backends.BACKENDS`.
        artifact: A version folder, or the folder of an artifact's name where `follow` is set.
        follow: Whether `latest` in that folder is followed: hot swap.
        limits: See `Limits`.
        siblings: All backends of this server, this one included.
        socket_fd: The listening socket the supervisor hands down.
        threads: Threads of the backend, where it can use more than one.
        cores: Cores the process is pinned to; empty leaves the choice to the system.
        drain_seconds: How long requests may take to finish after SIGTERM.
        accept_while_loading: Whether to listen, and say "not ready", before the model is loaded.
            A worker that replaces one among others keeps out until it can answer.
        access_log: Whether each request is logged.
        log_level: Of the log on stderr.
        page: Whether `GET /` shows the page.
    """

    backend: str
    artifact: str
    follow: bool
    limits: Limits
    siblings: tuple[Sibling, ...]
    socket_fd: int
    threads: int
    cores: tuple[int, ...]
    drain_seconds: float
    accept_while_loading: bool
    access_log: bool
    log_level: str
    page: bool

    def to_line(self) -> bytes:
        """Return one line of JSON that `from_line` reads."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Self:
        """Return what `to_line` was given."""
        fields: dict[str, Any] = json.loads(line)
        fields["limits"] = Limits(**fields["limits"])
        fields["siblings"] = tuple(Sibling(*sibling) for sibling in fields["siblings"])
        fields["cores"] = tuple(fields["cores"])
        return cls(**fields)
