"""Hostile requests get an error of the 400s or a closed connection; the server stays right."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from export.lookup import read_lookup
from tests.serving_compare.server.hostile_requests import Case, Limits, make_cases
from tests.serving_compare.server.running import GOLDEN, PREDICT, ROOT, Running, run_server

ANSWER_S = 10.0
"""Longest time until an answer, far above what one takes on a busy machine."""
GOOD = {"instances": "cat", "k": 1}
CASES = make_cases("tiny", vocab_size=96, max_tokens=6, limits=Limits())


STRANGE_TEXTS = [
    json.loads(line)
    for line in (ROOT / "tests/pipeline/hostile_strings.jsonl").read_text("utf-8").splitlines()
]
"""Right requests all the same: NUL, controls, marks without letters, texts in every direction."""


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
    address = address_of(server, backend)
    right = server.post(backend, PREDICT, GOOD)
    faults = []
    for number, case in enumerate(cases):
        try:
            fault = judge(case, exchange(address, case))
        except TimeoutError:
            fault = f"no answer in {ANSWER_S} s"
        if fault:
            faults.append(f"{case.name}: expected {sorted(case.statuses)[:4]}, found {fault}")
        if number % 20 == 19:
            assert server.post(backend, PREDICT, GOOD) == right, case.name
    assert server.post(backend, PREDICT, GOOD) == right
    return faults


def address_of(server: Running, backend: str) -> tuple[str, int]:
    parts = urlsplit(server.urls[backend])
    assert parts.hostname and parts.port
    return parts.hostname, parts.port


@pytest.fixture
def server(golden_server: Running) -> Running:
    return golden_server


def test_the_corpus_has_at_least_200_requests_of_different_names() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 200


def test_hostile_requests_are_refused_and_the_server_stays_right(server: Running) -> None:
    faults = list_faults(server, "lookup", CASES)
    assert not faults, "\n".join(faults)


HEAD = f"POST {PREDICT} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n".encode()
SLOW = {
    "a letter of the head a second": (HEAD, b"x"),
    "a header line a second": (HEAD, b"a: b\r\n"),
    "a letter of the body a second": (HEAD + b"Content-Length: 200\r\n\r\n", b" "),
    "a chunk a second": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
}
"""How a request begins, and what comes of it each second: without an end, as slow-loris does."""


@pytest.mark.slow
def test_who_does_not_finish_a_request_is_let_go(server: Running) -> None:
    connections = {}
    for name, (start, _) in SLOW.items():
        connections[name] = socket.create_connection(address_of(server, "lookup"), timeout=0.1)
        connections[name].sendall(start)
    answers: dict[str, bytes] = {}
    until = time.monotonic() + 30
    while len(answers) < len(SLOW) and time.monotonic() < until:
        time.sleep(1)
        for name in SLOW.keys() - answers.keys():
            try:
                connections[name].sendall(SLOW[name][1])
                answers[name] = connections[name].recv(4096)
            except TimeoutError:
                continue
            except ConnectionError:
                answers[name] = b""
    for connection in connections.values():
        connection.close()
    assert answers.keys() == SLOW.keys()
    for name in ("a letter of the body a second", "a chunk a second"):
        assert answers[name].startswith(b"HTTP/1.1 408 "), answers[name]
    assert server.post("lookup", PREDICT, GOOD)


def test_a_thousand_connections_that_say_nothing_keep_nobody_out(server: Running) -> None:
    silent = [socket.create_connection(address_of(server, "lookup")) for _ in range(1000)]
    try:
        assert server.post("lookup", PREDICT, GOOD)
    finally:
        for connection in silent:
            connection.close()


def test_heads_without_end_are_cut_off(server: Running) -> None:
    for line in (b"X-A: " + b"b" * 4000 + b"\r\n", b"a: b\r\n" * 500, b"X-" + b"A" * 4000):
        with socket.create_connection(address_of(server, "lookup"), timeout=ANSWER_S) as connection:
            connection.sendall(HEAD)
            received = b""
            with suppress(ConnectionError):
                for _ in range(4096):
                    connection.sendall(line)
                received = connection.recv(4096)
            assert not received or received.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 ")), line[
                :9
            ]
    assert server.post("lookup", PREDICT, GOOD)


UPGRADE = (
    b"GET /v1/models/tiny:stream HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
)
KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
FRAMES = {
    "no key": (UPGRADE + b"\r\n", b""),
    "a bad key": (UPGRADE + b"Sec-WebSocket-Key: a\r\n\r\n", b""),
    "version 12": (UPGRADE.replace(b"13", b"12") + KEY, b""),
    "unmasked": (UPGRADE + KEY, b"\x81\x02{}"),
    "reserved bits": (UPGRADE + KEY, b"\xf1\x82aaaa\x1a\x1c"),
    "reserved opcode": (UPGRADE + KEY, b"\x83\x82aaaa\x1a\x1c"),
    "invalid UTF-8": (UPGRADE + KEY, b"\x81\x82\0\0\0\0\xff\xfe"),
    "announces 2**62 bytes": (UPGRADE + KEY, b"\x81\xff" + (1 << 62).to_bytes(8) + bytes(4)),
    "ping of 126 bytes": (UPGRADE + KEY, b"\x89\xfe\0\x7e" + bytes(130)),
    "continuation of nothing": (UPGRADE + KEY, b"\x80\x82aaaa\x1a\x1c"),
    "close of one byte": (UPGRADE + KEY, b"\x88\x81aaaaa"),
    "garbage": (UPGRADE + KEY, b"\xff" * 300),
    "fragments without end": (UPGRADE + KEY, b"\x01\x81\0\0\0\0a" + b"\x00\x81\0\0\0\0a" * 40_000),
}


@pytest.mark.parametrize("name", FRAMES)
def test_hostile_web_sockets_are_closed(server: Running, name: str) -> None:
    head, frame = FRAMES[name]
    with socket.create_connection(address_of(server, "lookup"), timeout=ANSWER_S) as connection:
        connection.sendall(head)
        received = bytearray()
        if frame:
            while b"\r\n\r\n" not in received:
                received += connection.recv(4096)
            assert received.startswith(b"HTTP/1.1 101 ")
        with suppress(ConnectionError):
            connection.sendall(frame)
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(4096):
                received += piece
    if not frame:
        assert re.match(rb"HTTP/1.1 4\d\d ", received), received
    assert server.post("lookup", PREDICT, GOOD)


LONG = {
    "words": "dog " * 250_000,
    "words that no table holds": "qzx " * 250_000,
    "one word": "q" * 1_000_000,
    "letters that become eighteen": "\ufdfa" * 150_000,
    "many": ["qzx " * 900] * 256,
}


@pytest.mark.parametrize("name", LONG)
def test_a_megabyte_of_text_is_cut_and_answered(server: Running, name: str) -> None:
    for backend in ("lookup", "onnx"):
        answer = server.post(
            backend, PREDICT, {"instances": LONG[name], "k": 1}, ensure_ascii=False
        )
        assert len(answer["predictions"]) == (256 if name == "many" else 1)


@pytest.mark.slow
def test_every_backend_refuses_the_same_in_the_same_words(tmp_path: Path) -> None:
    backends = ("lookup", "onnx", "saved_model")
    with run_server(tmp_path, backends=",".join(backends)) as server:
        for backend in backends[1:]:
            faults = list_faults(server, backend, CASES)
            assert not faults, f"{backend}: " + "\n".join(faults)
        for case in CASES:
            if case.is_json and not case.ends and len(case.raw) < 1 << 18:
                answers = {
                    exchange(address_of(server, backend), case).partition(b"\r\n\r\n")[2]
                    for backend in backends
                }
                assert len(answers) == 1, case.name
        # The golden tables are compressed: they say themselves how far they may be from the others.
        tolerance = read_lookup(GOLDEN / "lookup").tolerance + 1e-5
        strange = {"instances": STRANGE_TEXTS, "k": 2}
        first, *others = (server.post(name, PREDICT, strange)["predictions"] for name in backends)
        for other in others:
            for text, expected, found in zip(STRANGE_TEXTS, first, other, strict=True):
                assert [best["probability"] for best in found] == pytest.approx(
                    [best["probability"] for best in expected], abs=tolerance
                ), text
        log = server.log.read_text()
    assert "Traceback" not in log, log[-3000:]
