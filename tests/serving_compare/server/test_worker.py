"""A real worker under load: it swaps, drains and refuses without losing a request."""

from __future__ import annotations

import json
import signal
import time
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest

from tests.serving_compare.server.clients import HEADERS, Load
from tests.serving_compare.server.running import PREDICT, run_server
from tests.serving_compare.server.versions import add_version

PATIENT = ("--max-wait-ms", "10000", "--deadline-ms", "10000")
"""Or a machine that is busy with something else would make the server refuse."""


def wait_until(condition: object, *, within_s: float) -> None:
    assert callable(condition)
    until = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.05)


def test_versions_are_exchanged_under_load_and_a_damaged_one_stays_out(tmp_path: Path) -> None:
    artifact = tmp_path / "tiny"
    artifact.mkdir()
    add_version(artifact, 1)
    with (
        run_server(tmp_path / "server", *PATIENT, artifact=artifact) as server,
        Load(server.urls["lookup"], clients=2, pause_s=0.002) as load,
    ):
        wait_until(lambda: load.versions["1"] > 20, within_s=20)
        add_version(artifact, 2)
        wait_until(lambda: load.versions["2"] > 20, within_s=20)
        add_version(artifact, 3, damaged="lookup/gate_table.npy")
        wait_until(lambda: '"swap_failed"' in server.log.read_text(), within_s=20)
        answered = load.versions["2"]
        wait_until(lambda: load.versions["2"] > answered + 20, within_s=20)
        with urlopen(server.urls["lookup"] + "/metrics", timeout=10) as answer:
            metrics = answer.read().decode()
        add_version(artifact, 4)
        wait_until(lambda: load.versions["4"] > 20, within_s=20)
    assert set(load.outcomes) == {"200"}
    assert set(load.versions) == {"1", "2", "4"}
    assert "gatetable_swap_failures_total 1.0" in metrics
    assert "gatetable_swaps_total 1.0" in metrics
    events = [json.loads(line)["event"] for line in server.log.read_text().splitlines()]
    assert events.count("swapped") == 2


def test_while_draining_ready_says_no_and_answers_ask_to_leave(tmp_path: Path) -> None:
    with run_server(tmp_path, *PATIENT) as server:
        address = urlsplit(server.urls["lookup"]).netloc
        kept, other = (HTTPConnection(address, timeout=10) for _ in range(2))
        for connection in (kept, other):
            connection.request("GET", "/readyz")
            with connection.getresponse() as answer:
                assert (answer.status, answer.headers["connection"]) == (200, None)
                answer.read()
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "drain_begins" in server.log.read_text(), within_s=10)
        kept.request("GET", "/readyz")
        with kept.getresponse() as answer:
            assert (answer.status, answer.headers["connection"]) == (503, "close")
            assert answer.headers["retry-after"] == "1"
            assert json.loads(answer.read())["error"] == {
                "code": "not_ready",
                "message": "server: expected ready, found draining. Ask again in a second.",
            }
        other.request("POST", PREDICT, b'{"instances": "stone"}', HEADERS)
        with other.getresponse() as answer:  # it was there before, so it is answered
            assert (answer.status, answer.headers["connection"]) == (200, "close")
            answer.read()


@pytest.mark.slow
def test_sigterm_under_load_loses_nothing_time_and_again(tmp_path: Path) -> None:
    for number in range(4):
        with (
            run_server(
                tmp_path / str(number), *PATIENT, "--workers", str(1 + number % 2)
            ) as server,
            Load(server.urls["lookup"], clients=6) as load,
        ):
            wait_until(lambda load=load: load.outcomes["200"] > 100, within_s=30)
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(30) == 0
            time.sleep(0.05)
        assert load.outcomes["lost"] == 0, load.outcomes
        assert set(load.outcomes) <= {"200", "unconnected"}, load.outcomes
        assert '"connections_left": 0' in server.log.read_text()


@pytest.mark.slow
def test_memory_does_not_grow_with_requests(tmp_path: Path) -> None:
    def read_kib(pid: int) -> int:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))

    with run_server(tmp_path, *PATIENT) as server:
        (group,) = json.loads((tmp_path / "ready.json").read_text())["servers"]
        with Load(server.urls["lookup"], clients=4) as load:
            wait_until(lambda: load.outcomes["200"] > 2000, within_s=60)
            before = read_kib(group["workers"][0])
            seen = load.outcomes["200"]
            wait_until(lambda: load.outcomes["200"] > seen + 8000, within_s=120)
            grown_kib = read_kib(group["workers"][0]) - before
    assert grown_kib < 4096, f"{grown_kib} KiB in 8000 requests"
    assert load.outcomes["lost"] == 0


@pytest.mark.slow
def test_a_crowd_beyond_the_queue_is_refused_and_the_rest_answered(tmp_path: Path) -> None:
    options = ("--queue-size", "1", "--max-wait-ms", "10000", "--deadline-ms", "10000")
    with (
        run_server(tmp_path, *options) as server,
        Load(server.urls["lookup"], clients=12) as load,
    ):
        wait_until(lambda: load.outcomes["429"] > 20 and load.outcomes["200"] > 200, within_s=30)
    assert set(load.outcomes) == {"200", "429"}
    events = [json.loads(line) for line in server.log.read_text().splitlines()]
    told = [event for event in events if event["event"] == "refused"]
    assert sum(event["queue_full"] for event in told) > 0
    assert len(told) < 60  # summed up, not one by one


@pytest.mark.slow
def test_micro_batches_give_the_same_answers(tmp_path: Path) -> None:
    texts = ["stone dog", "river of cat", "", "cat"]
    with run_server(tmp_path / "on", *PATIENT, "--micro-batch", "8") as batching:
        with Load(batching.urls["lookup"], clients=4) as load:
            found = [batching.post("lookup", PREDICT, {"instances": text}) for text in texts * 3]
        expected = batching.post("lookup", PREDICT, {"instances": texts})["predictions"]
    assert set(load.outcomes) == {"200"}
    for number, answer in enumerate(found):
        for entry, other in zip(answer["predictions"][0], expected[number % 4], strict=True):
            assert entry["label"] == other["label"]
            assert entry["probability"] == pytest.approx(other["probability"], abs=1e-6)
