"""The stream says of a text being typed what predict says of it, and is bounded in every way."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from serving_compare.server.lifecycle import Lifecycle
from serving_compare.server.model_slot import ModelSlot
from serving_compare.server.stream import Pace, StreamLimits, router_for
from tests.serving_compare.server.running import GOLDEN, PREDICT, ROOT, Running

STREAM = "/v1/models/tiny:stream"
TYPED = "stone dog of stone, 고양이 🙂"


@pytest.fixture(scope="module")
def slot() -> ModelSlot:
    slot = ModelSlot("lookup", GOLDEN, follow=False)
    slot.exchange(slot.load())
    return slot


@contextmanager
def serving(slot: ModelSlot, lifecycle: Lifecycle | None = None, **limits: Any) -> Iterator[str]:
    """Serve the stream alone, with these limits, in a thread; yield its URL."""
    app = FastAPI()
    app.include_router(router_for(slot, lifecycle or Lifecycle(slot), StreamLimits(**limits)))
    config = uvicorn.Config(
        app, port=0, ws="websockets-sansio", log_config=None, lifespan="off", access_log=False
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.005)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"ws://127.0.0.1:{port}{STREAM}"
    finally:
        server.should_exit = True
        thread.join(10)


@contextmanager
def streaming(slot: ModelSlot, **limits: Any) -> Iterator[ClientConnection]:
    with serving(slot, **limits) as address, connect(address, close_timeout=5) as stream:
        yield stream


def ask(stream: ClientConnection, message: str | None = None, **fields: Any) -> Any:
    stream.send(message or json.dumps(fields))
    return json.loads(stream.recv(timeout=10))


@pytest.fixture
def server(golden_server: Running) -> Running:
    return golden_server


def test_every_letter_is_answered_as_predict_answers_the_text_so_far(server: Running) -> None:
    address = server.urls["lookup"].replace("http", "ws") + STREAM
    with connect(address, close_timeout=5) as stream:
        steps = []
        for end in range(1, len(TYPED) + 1):
            text = TYPED[:end]
            stream.send(json.dumps({"text": text, "k": 2}))
            answer = json.loads(stream.recv(timeout=10))
            asked = {"instances": [text], "k": 2, "return_tokens": True}
            expected = server.post("lookup", PREDICT, asked)
            assert answer["version"] == expected["version"]
            assert answer["tokens"] == expected["tokens"][0]
            for found, wanted in zip(
                answer["predictions"], expected["predictions"][0], strict=True
            ):
                assert found["label"] == wanted["label"]
                assert found["probability"] == pytest.approx(wanted["probability"], abs=2e-6)
            assert answer["model_us"] > 0
            steps.append((answer["steps_reused"], answer["steps_computed"]))
    assert max(reused for reused, _ in steps) == 6  # max_tokens: the cut text is read no more
    assert steps[-1] == (6, 0)


@pytest.mark.parametrize(
    ("backend", "path", "status", "code"),
    [
        ("onnx", STREAM, 404, "no_stream"),
        ("lookup", "/v1/models/absent:stream", 404, "unknown_model"),
    ],
)
def test_a_stream_that_cannot_be_is_refused_before_it_is_opened(
    server: Running, backend: str, path: str, status: int, code: str
) -> None:
    with (
        pytest.raises(InvalidStatus) as refused,
        connect(server.urls[backend].replace("http", "ws") + path),
    ):
        pass
    assert refused.value.response.status_code == status
    assert json.loads(refused.value.response.body or b"")["error"]["code"] == code


def test_pages_of_other_origins_get_no_stream(server: Running) -> None:
    address = server.urls["lookup"].replace("http", "ws") + STREAM
    with pytest.raises(InvalidStatus) as refused, connect(address, origin="http://evil.example"):
        pass
    assert refused.value.response.status_code == 403
    with connect(address, origin=server.urls["onnx"], close_timeout=5) as stream:
        stream.send('{"text": "cat", "k": 1}')
        assert "predictions" in json.loads(stream.recv(timeout=10))


def test_a_message_above_the_limit_ends_the_stream(server: Running) -> None:
    address = server.urls["lookup"].replace("http", "ws") + STREAM
    for size in (20_000, 2_000_000):
        with connect(address, close_timeout=5) as stream:
            with pytest.raises(ConnectionClosed) as closed:
                stream.send(json.dumps({"text": "a" * size}))
                stream.recv(timeout=10)
            assert closed.value.rcvd is None or closed.value.rcvd.code == 1009
    assert server.post("lookup", PREDICT, {"instances": "cat", "k": 1})


@pytest.mark.parametrize(
    ("message", "code", "says"),
    [
        ("{", "malformed_json", "message: expected JSON, found EOF"),
        ("[]", "wrong_type", 'expected {"text": "...", "k": 3}, found no text'),
        ('{"text": 1}', "wrong_type", "found no text in it"),
        (r'{"text": "\ud800"}', "malformed_json", "unexpected end of hex escape"),
        ('{"text": "a", "k": 3}', "k_out_of_range", "k: expected an integer from 1 to 2, found 3."),
        ('{"text": "a", "k": true}', "k_out_of_range", "found true"),
        ('{"text": "a", "to": 1}', "unknown_field", "expected text and k, found 'to'."),
    ],
)
def test_a_bad_message_is_answered_with_its_error_and_the_stream_goes_on(
    slot: ModelSlot, message: str, code: str, says: str
) -> None:
    with streaming(slot) as stream:
        error = ask(stream, message)["error"]
        assert error["code"] == code
        assert says in error["message"]
        assert ask(stream, text="stone")["predictions"][0]["label"] in ("animal", "other")


def test_bytes_end_the_stream(slot: ModelSlot) -> None:
    with streaming(slot) as stream:
        stream.send(b'{"text": "cat"}')
        with pytest.raises(ConnectionClosed) as closed:
            stream.recv(timeout=10)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (
        1003,
        "Expected text, found bytes.",
    )


def test_an_idle_stream_is_ended(slot: ModelSlot) -> None:
    with streaming(slot, idle_s=0.05) as stream, pytest.raises(ConnectionClosed) as closed:
        stream.recv(timeout=10)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1001, "No message for a while.")


def test_one_stream_too_many_is_refused_until_another_ends(slot: ModelSlot) -> None:
    with serving(slot, max_streams=1) as address:
        with connect(address, close_timeout=5) as stream:
            ask(stream, text="cat")
            with pytest.raises(InvalidStatus) as refused, connect(address):
                pass
            response = refused.value.response
            assert (response.status_code, response.headers["retry-after"]) == (429, "1")
            assert "expected at most 1 open ones" in json.loads(response.body)["error"]["message"]
        with connect(address, close_timeout=5) as stream:
            assert "predictions" in ask(stream, text="cat")


def test_a_draining_server_opens_no_stream(slot: ModelSlot) -> None:
    lifecycle = Lifecycle(slot)
    lifecycle.is_draining = True
    with (
        serving(slot, lifecycle) as address,
        pytest.raises(InvalidStatus) as refused,
        connect(address),
    ):
        pass
    assert refused.value.response.status_code == 503


def test_messages_above_the_rate_wait(slot: ModelSlot) -> None:
    with streaming(slot, messages_per_s=50.0, burst=2) as stream:
        began_s = time.monotonic()
        for _ in range(7):
            ask(stream, text="cat")
        assert time.monotonic() - began_s >= 5 / 50 * 0.9


def test_a_version_exchanged_meanwhile_answers_the_next_letter() -> None:
    slot = ModelSlot("lookup", GOLDEN, follow=False)
    slot.exchange(slot.load())
    with streaming(slot) as stream:
        assert ask(stream, text="stone dog")["version"] == "1"
        slot.exchange(dataclasses.replace(slot.current, version=2))
        answer = ask(stream, text="stone dog")
    assert answer["version"] == "2"
    assert answer["tokens_reused"] == 0  # states of another model are of no use


def test_pace_lets_a_burst_through_and_then_one_message_an_interval() -> None:
    pace = Pace(per_s=10.0, burst=3)
    start_s = time.monotonic()
    waits = [pace.take(start_s) for _ in range(5)]
    assert waits[:3] == [0.0, 0.0, 0.0]
    assert waits[3:] == pytest.approx([0.1, 0.2], abs=0.01)
    assert pace.take(start_s + 60) == 0.0
    assert [pace.take(start_s + 60) for _ in range(3)][-1] > 0  # a pause is saved up once only


def test_the_documentation_names_the_bounds() -> None:
    document = (ROOT / "docs/page.md").read_text(encoding="utf-8")
    bounds = StreamLimits()
    for row in (
        f"| bytes of a message | {bounds.max_message_bytes:,} |",
        f"| messages a second, after a burst of {bounds.burst} | {bounds.messages_per_s:.0f} |",
        f"| seconds without a message | {bounds.idle_s:.0f} |",
        f"| open streams of a worker | {bounds.max_streams} |",
    ):
        assert row in document
