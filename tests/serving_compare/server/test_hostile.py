"""Hostile requests get an error of the 400s or a closed connection; the server stays right."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

import pytest

from tests.serving_compare.server.hostile_requests import Case, Limits, make_cases
from tests.serving_compare.server.running import PREDICT, Running, run_server

ANSWER_S = 10.0
"""Longest time until an answer, far above what one takes on a busy machine."""
GOOD = {"instances": "cat", "k": 1}
CASES = make_cases("tiny", vocab_size=96, max_tokens=6, limits=Limits())


def exchange(address: tuple[str, int], case: Case) -> bytes:
    """Send a case on a connection of its own and return all that came back until it ended."""
    received = bytearray()
    with socket.create_connection(address, timeout=ANSWER_S) as connection:
        try:
            connection.sendall(case.raw)
            if case.ends:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # refused before all of it was sent
        try:
            while not _is_whole(bytes(received), case) and (piece := connection.recv(1 << 16)):
                received += piece
        except ConnectionError:
            pass  # closed with bytes unread: what was received counts
    return bytes(received)


def _is_whole(received: bytes, case: Case) -> bool:
    """Whether a response has come whole; of requests that could be two, all is waited for."""
    if case.ends:
        return False
    head, end, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: *(\d+)", head)
    if case.raw.startswith(b"HEAD"):
        return bool(end)
    return bool(end) and length is not None and len(body) >= int(length[1])


def judge(case: Case, received: bytes) -> str | None:
    """Return what is wrong with an answer, None if it is right."""
    if not received:
        return None if case.may_close else "closed without an answer"
    statuses = [int(found) for found in re.findall(rb"HTTP/1\.[01] (\d{3}) ", received)]
    if len(statuses) != 1:
        return f"{len(statuses)} answers: {received[:200]!r}"
    if statuses[0] not in case.statuses:
        return f"status {statuses[0]}: {received[-200:]!r}"
    if b"Traceback" in received or b"\nX-Injected" in received:
        return f"tells too much: {received[:200]!r}"
    if case.is_json:
        try:
            error = json.loads(received.partition(b"\r\n\r\n")[2])["error"]
        except (ValueError, KeyError, TypeError):
            return f"no JSON error: {received[-200:]!r}"
        message = error if isinstance(error, str) else error["message"]
        if not 0 < len(message) <= 400:
            return f"a message of {len(message)} characters: {message[:200]}"
    return None


def list_faults(server: Running, backend: str, cases: Sequence[Case]) -> list[str]:
    """Send every case, and after every twentieth a request that must be answered as ever."""
    parts = urlsplit(server.urls[backend])
    assert parts.hostname and parts.port
    right = server.post(backend, PREDICT, GOOD)
    faults = []
    for number, case in enumerate(cases):
        try:
            fault = judge(case, exchange((parts.hostname, parts.port), case))
        except TimeoutError:
            fault = f"no answer in {ANSWER_S} s"
        if fault:
            faults.append(f"{case.name}: expected {sorted(case.statuses)[:4]}, found {fault}")
        if number % 20 == 19:
            assert server.post(backend, PREDICT, GOOD) == right, case.name
    assert server.post(backend, PREDICT, GOOD) == right
    return faults


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with run_server(tmp_path_factory.mktemp("hostile"), backends="lookup") as running:
        yield running
        log = running.log.read_text()
    assert "Traceback" not in log, log[-3000:]


def test_the_corpus_has_at_least_200_requests_of_different_names() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 200


def test_hostile_requests_are_refused_and_the_server_stays_right(server: Running) -> None:
    faults = list_faults(server, "lookup", CASES)
    assert not faults, "\n".join(faults)
