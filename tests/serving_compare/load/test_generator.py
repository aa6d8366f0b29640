"""The generator against a server of known delays. No test asserts that anything is fast."""

from __future__ import annotations

import socket
import subprocess
import time

import numpy as np
import pytest

from serving_compare.load.arrivals import Phase, draw_arrivals
from serving_compare.load.errors import ConnectError
from serving_compare.load.generator import Limits, run_closed_loop, run_open_loop
from serving_compare.load.recording import Failure
from serving_compare.load.request import Target, format_request

MS = 1_000_000
FEW = Limits(connections=2, max_connections=64, timeout_s=5.0)


def requests(port: int, *paths: str, body: bytes | None = b'{"instances": "x"}') -> list[bytes]:
    return [format_request(Target(host="127.0.0.1", port=port, path=p), body) for p in paths]


def every(interval_ms: float, count: int) -> np.ndarray:
    return (np.arange(count) * interval_ms * MS).astype(np.int64)


def test_a_known_delay_is_found_as_latency(toy_port: int) -> None:
    for delay_ms in (5, 20):
        recording = run_open_loop(
            "127.0.0.1",
            toy_port,
            requests(toy_port, f"/delay/{delay_ms}"),
            every(2, 100),
            limits=FEW,
        )
        assert recording.status.tolist() == [200] * 100
        # The delay is a floor, which some request of a hundred comes near on any machine.
        assert delay_ms * MS <= recording.latency_ns.min() < (delay_ms + 40) * MS


def test_requests_are_sent_when_due_though_earlier_ones_are_unanswered(toy_port: int) -> None:
    recording = run_open_loop(
        "127.0.0.1", toy_port, requests(toy_port, "/delay/300"), every(5, 20), limits=FEW
    )
    assert recording.sent_ns.max() < recording.last_ns.min()
    assert len(set(recording.connection.tolist())) == 20  # two were open, the rest were opened
    assert recording.waited == 0


def test_no_request_is_sent_before_it_is_due(toy_port: int) -> None:
    arrivals = draw_arrivals([Phase(500, 0.2)], seed=3)
    recording = run_open_loop(
        "127.0.0.1", toy_port, requests(toy_port, "/ok"), arrivals, limits=FEW
    )
    assert recording.scheduled_ns.tolist() == arrivals.tolist()
    assert recording.lag_ns.min() >= 0
    assert (recording.last_ns >= recording.first_ns).all()
    assert (recording.first_ns >= recording.sent_ns).all()


def test_a_stall_counts_from_the_scheduled_time_where_requests_had_to_wait(toy_port: int) -> None:
    # One connection, one stall of 200 ms: later requests wait in the generator. What they felt
    # is in the latency; the service time, which a client that sends late reports, hides it.
    paths = ["/ok"] * 20 + ["/block/200"] + ["/ok"] * 59
    one = Limits(connections=1, max_connections=1, timeout_s=5.0)
    recording = run_open_loop(
        "127.0.0.1", toy_port, requests(toy_port, *paths), every(2, 80), limits=one
    )
    assert recording.waited >= 50
    behind = slice(21, 70)
    assert recording.latency_ns[behind].min() > 50 * MS
    assert np.median(recording.service_ns[behind]) < 50 * MS
    assert np.median(recording.lag_ns) < 50 * MS  # waiting for the server is not the lag


def test_a_closed_loop_hides_a_stall_from_all_but_one_request(toy_port: int) -> None:
    paths = ["/ok"] * 20 + ["/block/200"] + ["/ok"] * 59
    one = Limits(connections=1)
    recording = run_closed_loop(
        "127.0.0.1", toy_port, requests(toy_port, *paths), 5.0, limits=one, max_requests=80
    )
    assert len(recording.status) == 80
    assert (recording.latency_ns > 150 * MS).sum() == 1


def test_a_closed_loop_keeps_as_many_requests_outstanding_as_connections(toy_port: int) -> None:
    recording = run_closed_loop(
        "127.0.0.1", toy_port, requests(toy_port, "/delay/20"), 0.5, limits=Limits(connections=4)
    )
    assert set(recording.connection.tolist()) == {0, 1, 2, 3}
    for number in range(4):
        mine = recording.select(recording.connection == number)
        assert (mine.sent_ns[1:] >= mine.last_ns[:-1]).all()


def test_requests_are_taken_in_turn(toy_port: int) -> None:
    recording = run_open_loop(
        "127.0.0.1",
        toy_port,
        requests(toy_port, "/ok", "/status/429", "/status/500"),
        every(1, 9),
        limits=FEW,
    )
    assert recording.status.tolist() == [200, 429, 500] * 3
    assert recording.is_ok.sum() == recording.is_refused.sum() == recording.is_error.sum() == 3


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/chunked", 200),  # behind a 100 Continue
        ("/drip", 200),  # a byte at a time
        ("/close", 200),
        ("/swallow", Failure.UNANSWERED),
        ("/cut", Failure.CUT_OFF),
        ("/garbage", Failure.MALFORMED),
    ],
)
def test_what_became_of_a_request_is_told(toy_port: int, path: str, expected: int) -> None:
    recording = run_open_loop(
        "127.0.0.1", toy_port, requests(toy_port, path), every(10, 5), limits=FEW
    )
    assert recording.status.tolist() == [expected] * 5
    assert (recording.last_ns > recording.sent_ns).all()


def test_an_answer_that_does_not_come_is_a_timeout(toy_port: int) -> None:
    recording = run_open_loop(
        "127.0.0.1",
        toy_port,
        requests(toy_port, "/never", "/ok"),
        every(1, 4),
        limits=FEW._replace(timeout_s=0.1),
    )
    assert recording.status.tolist() == [Failure.TIMEOUT, 200] * 2
    assert recording.latency_ns[0] >= 100 * MS


def test_large_bodies_go_out_in_parts_and_an_early_answer_ends_the_connection(
    toy_port: int,
) -> None:
    body = b"x" * 8_000_000  # more than the buffers of both sockets hold
    whole = run_open_loop(
        "127.0.0.1", toy_port, requests(toy_port, "/ok", body=body), every(1, 2), limits=FEW
    )
    assert whole.status.tolist() == [200, 200]
    early = run_closed_loop(
        "127.0.0.1",
        toy_port,
        requests(toy_port, "/early", body=body),
        5.0,
        limits=Limits(connections=1),
        max_requests=2,
    )
    assert early.status.tolist() == [413, 413]
    assert early.connection.tolist() == [0, 1]


def listen() -> socket.socket:
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(5)
    return server


def test_a_request_sent_on_a_connection_the_server_has_just_closed_was_not_read() -> None:
    with listen() as server:
        port = server.getsockname()[1]

        def close_idle(start_ns: int) -> None:
            connection, _ = server.accept()
            connection.close()
            time.sleep(0.05)  # past time 0: the generator sends before it looks

        recording = run_open_loop(
            "127.0.0.1",
            port,
            requests(port, "/ok"),
            every(1, 1),
            limits=Limits(connections=1, max_connections=1),
            on_start=close_idle,
        )
    assert recording.status.tolist() == [Failure.NOT_READ]


def test_a_reset_says_that_the_request_was_never_read() -> None:
    # A process that has not read what came, and is killed: the system resets the connection.
    code = (
        "import socket, time; s = socket.create_server(('127.0.0.1', 0));"
        "print(s.getsockname()[1], flush=True); c, _ = s.accept(); time.sleep(0.3); c.close()"
    )
    process = subprocess.Popen(["python3", "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        port = int(process.stdout.readline())
        recording = run_open_loop(
            "127.0.0.1", port, requests(port, "/ok"), every(1, 1), limits=Limits(connections=1)
        )
        assert recording.status.tolist() == [Failure.NOT_READ]
    finally:
        process.wait(10)
        process.stdout.close()


def test_requests_to_a_server_that_has_gone_are_not_connected() -> None:
    with listen() as server:
        port = server.getsockname()[1]

        def leave(start_ns: int) -> None:
            connection, _ = server.accept()
            connection.close()
            server.close()

        recording = run_open_loop(
            "127.0.0.1",
            port,
            requests(port, "/ok"),
            every(20, 3),
            limits=Limits(connections=1),
            on_start=leave,
        )
    assert recording.status.tolist() == [Failure.NOT_CONNECTED] * 3


def test_a_closed_loop_ends_where_the_server_has_gone() -> None:
    with listen() as server:
        port = server.getsockname()[1]

        def leave(start_ns: int) -> None:
            connection, _ = server.accept()
            connection.close()
            server.close()

        recording = run_closed_loop(
            "127.0.0.1",
            port,
            requests(port, "/ok"),
            60.0,
            limits=Limits(connections=1),
            on_start=leave,
        )
    assert recording.status.tolist()[-1] == Failure.NOT_CONNECTED
    assert len(recording) <= 2


def test_a_server_that_is_not_there_is_an_error() -> None:
    with listen() as server:
        port = server.getsockname()[1]
    with pytest.raises(
        ConnectError,
        match=f"127.0.0.1:{port}: expected a server that takes 2 connections, found .*refused",
    ):
        run_open_loop("127.0.0.1", port, requests(port, "/ok"), every(1, 1), limits=FEW)


def test_a_name_that_is_no_machine_is_an_error() -> None:
    with pytest.raises(ConnectError, match="expected the name of a machine"):
        run_closed_loop("no such.invalid", 80, [b""], 1.0, limits=FEW)
