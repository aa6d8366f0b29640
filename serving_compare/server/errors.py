"""What a request can be refused with: a status, a code for programs and a sentence for people.

Every error answer of the server is `{"error": {"code": "<snake_case>", "message": "..."}}`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

Headers = Sequence[tuple[bytes, bytes]]
RETRY: Headers = ((b"retry-after", b"1"),)
"""Seconds; the least the header can say. Queues here are gone in milliseconds."""


class ServerError(Exception):
    """The server cannot be started as it was asked to: bad input, exit code 2."""


class RequestError(Exception):
    """A request that is answered with an error.

    Args:
        status: HTTP status, 400 to 599.
        code: Stable snake_case name of the cause.
        message: Subject and place, what was expected, what was found, what to do.
        headers: Further headers of the answer, such as `retry-after`.
    """

    def __init__(self, status: int, code: str, message: str, headers: Headers = ()) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = tuple(headers)


class InputError(RequestError):
    """A body that says something wrong; status 400."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(400, code, message)


def format_error(code: str, message: str) -> bytes:
    """Return the body of an error answer, JSON in UTF-8."""
    return json.dumps({"error": {"code": code, "message": message}}).encode()
