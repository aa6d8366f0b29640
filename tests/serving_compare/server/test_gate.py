"""What is let in, what is refused, with which words; without a server around it."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from serving_compare.server.config import Limits
from serving_compare.server.errors import InputError
from serving_compare.server.gate import JSON_HEADER, QUEUE_NS, Gate, Reply
from serving_compare.server.metrics import Meters

BODY = b'{"instances": "stone"}'


class Phase:
    """Stands in for a `Lifecycle`."""

    accepts = True
    state = "ready"


class Answer:
    """Collects what a request is answered with."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def __call__(self, message: Message) -> None:
        self.messages.append(message)

    @property
    def status(self) -> int:
        status: int = self.messages[0]["status"]
        return status

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.messages[0]["headers"])

    @property
    def error(self) -> tuple[int, str, str]:
        error = json.loads(self.messages[1]["body"])["error"]
        return self.status, error["code"], error["message"]


async def echo(scope: Scope, body: bytes) -> Reply:
    return Reply(200, (JSON_HEADER,), body)


async def inner_app(scope: Scope, receive: Receive, send: Send) -> None:
    body = (await receive())["body"] if scope["method"] == "POST" else b"through"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def make_gate(
    respond: Callable[[Scope, bytes], Awaitable[Reply]] = echo, **limits: Any
) -> tuple[Gate, Phase, Meters]:
    phase, meters = Phase(), Meters()
    gate = Gate(
        inner_app,
        respond,
        limits=Limits(**limits),
        lifecycle=phase,  # type: ignore[arg-type]
        meters=meters,
    )
    return gate, phase, meters


def make_scope(
    headers: dict[bytes, bytes] | None = None,
    *,
    path: str = "/v1/models/tiny:predict",
    method: str = "POST",
) -> Scope:
    given = {b"content-type": b"application/json", b"content-length": b"22"}
    given.update(headers or {})
    return {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [(name, value) for name, value in given.items() if value],
    }


def chunks(*bodies: bytes) -> Receive:
    messages = [
        {"type": "http.request", "body": body, "more_body": number < len(bodies)}
        for number, body in enumerate(bodies, start=1)
    ]

    async def receive() -> Message:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    return receive


async def ask(gate: Gate, scope: Scope | None = None, receive: Receive | None = None) -> Answer:
    answer = Answer()
    await gate(scope or make_scope(), receive or chunks(BODY), answer)
    return answer


def refuse(gate: Gate, scope: Scope, receive: Receive | None = None) -> tuple[int, str, str]:
    return asyncio.run(ask(gate, scope, receive)).error


def test_a_request_is_answered_and_learns_how_long_it_waited() -> None:
    gate, _, meters = make_gate()
    scope = make_scope()
    answer = asyncio.run(ask(gate, scope))
    assert (answer.status, answer.messages[1]["body"]) == (200, BODY)
    assert answer.headers[b"content-length"] == b"22"
    assert 0 <= scope[QUEUE_NS] < 1e9
    assert meters.flush() == {}


@pytest.mark.parametrize(
    ("path", "method"), [("/livez", "GET"), ("/v1/models/tiny:predict", "GET"), ("/v2", "POST")]
)
def test_everything_else_passes_untouched(path: str, method: str) -> None:
    gate, phase, _ = make_gate()
    phase.accepts = False
    answer = asyncio.run(ask(gate, make_scope({b"content-type": b""}, path=path, method=method)))
    assert answer.status == 200


def test_an_inner_application_gets_the_whole_body_at_once() -> None:
    gate, _, _ = make_gate()
    scope = make_scope(path="/v2/models/tiny/infer")
    answer = asyncio.run(ask(gate, scope, chunks(b"one ", b"two")))
    assert answer.messages[1]["body"] == b"one two"


def test_refusals_of_the_open_inference_protocol_have_its_form() -> None:
    gate, phase, _ = make_gate()
    phase.accepts = False
    answer = asyncio.run(ask(gate, make_scope(path="/v2/models/tiny/infer")))
    assert json.loads(answer.messages[1]["body"]) == {
        "error": "server: expected ready, found ready. Ask again in a second."
    }


def test_nobody_is_let_in_before_the_model_is_loaded() -> None:
    gate, phase, meters = make_gate()
    phase.accepts, phase.state = False, "loading"
    answer = asyncio.run(ask(gate))
    assert answer.error == (
        503,
        "not_ready",
        "server: expected ready, found loading. Ask again in a second.",
    )
    assert answer.headers[b"retry-after"] == b"1"
    assert meters.flush() == {"not_ready": 1}


@pytest.mark.parametrize(
    "kind",
    [b"application/json", b"application/json; charset=UTF-8", b'Application/JSON;charset="utf8"'],
)
def test_json_in_utf_8_is_taken_however_it_is_spelled(kind: bytes) -> None:
    gate, _, _ = make_gate()
    assert asyncio.run(ask(gate, make_scope({b"content-type": kind}))).status == 200


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (
            {b"content-type": b"text/plain"},
            (
                415,
                "unsupported_media_type",
                "content-type: expected application/json, found 'text/plain'.",
            ),
        ),
        (
            {b"content-type": b"application/json; charset=latin-1"},
            (
                415,
                "unsupported_media_type",
                "content-type: expected application/json, found 'application/json; "
                "charset=latin-1'.",
            ),
        ),
        (
            {b"content-type": b""},
            (415, "unsupported_media_type", "content-type: expected application/json, found ''."),
        ),
        (
            {b"content-encoding": b"gzip"},
            (
                415,
                "unsupported_encoding",
                "content-encoding: expected none, found 'gzip'. Send plain JSON.",
            ),
        ),
        (
            {b"content-length": b""},
            (
                411,
                "length_required",
                "content-length: expected the number of bytes of the body, found none.",
            ),
        ),
        (
            {b"content-length": b"101"},
            (
                413,
                "body_too_large",
                "body: expected at most 100 bytes, found 101. Send the instances in several "
                "requests.",
            ),
        ),
        (
            {b"content-length": b"9" * 5000},
            (
                413,
                "body_too_large",
                "body: expected at most 100 bytes, found 999999999999999999. Send the instances "
                "in several requests.",
            ),
        ),
    ],
)
def test_a_head_that_cannot_be_served_is_refused_before_the_body(
    headers: dict[bytes, bytes], expected: tuple[int, str, str]
) -> None:
    async def never() -> Message:
        raise AssertionError("the body was read")

    gate, _, _ = make_gate(max_body_bytes=100)
    assert refuse(gate, make_scope(headers), never) == expected


def test_chunks_are_counted() -> None:
    gate, _, _ = make_gate(max_body_bytes=100)
    scope = make_scope({b"content-length": b"", b"transfer-encoding": b"chunked"})
    assert refuse(gate, scope, chunks(b"x" * 60, b"x" * 60, b"x" * 60)) == (
        413,
        "body_too_large",
        "body: expected at most 100 bytes, found 120 so far. Send the instances in several "
        "requests.",
    )


async def wait_in_line(gate: Gate, count: int) -> list[asyncio.Task[Answer]]:
    """Occupies the turn, and lets `count` requests wait behind it."""
    await gate.turnstile.enter()
    tasks = [asyncio.create_task(ask(gate)) for _ in range(count)]
    await asyncio.sleep(0)
    assert gate.turnstile.waiting == count
    return tasks


def test_a_full_queue_refuses_at_once_and_serves_those_within() -> None:
    async def scenario() -> tuple[Answer, list[int]]:
        gate, _, _ = make_gate(queue_size=3)
        tasks = await wait_in_line(gate, 3)
        refused = await ask(gate)
        gate.turnstile.leave(computed=False)
        return refused, [(await task).status for task in tasks]

    refused, statuses = asyncio.run(scenario())
    assert refused.error == (
        429,
        "queue_full",
        "queue: expected fewer than 3 waiting requests, found 3. Ask again in a second.",
    )
    assert refused.headers[b"retry-after"] == b"1"
    assert statuses == [200, 200, 200]


def test_whoever_would_wait_too_long_is_refused_at_once() -> None:
    async def scenario() -> Answer:
        gate, _, _ = make_gate(max_wait_ms=15)
        gate.turnstile.request_s = 0.01
        tasks = await wait_in_line(gate, 2)
        refused = await ask(gate)
        gate.turnstile.leave(computed=False)
        await asyncio.gather(*tasks)
        return refused

    refused = asyncio.run(scenario())
    assert refused.error == (
        429,
        "wait_too_long",
        "wait: expected at most 15 ms, found 20.0 ms ahead. Ask again in a second.",
    )
    assert refused.headers[b"retry-after"] == b"1"


async def wait_50_ms(**limits: Any) -> Answer:
    gate, _, _ = make_gate(**limits)
    (task,) = await wait_in_line(gate, 1)
    await asyncio.sleep(0.05)
    gate.turnstile.leave(computed=False)
    return await task


def test_whoever_has_waited_too_long_is_refused_at_the_turn() -> None:
    status, code, message = asyncio.run(wait_50_ms(max_wait_ms=15)).error
    assert (status, code) == (429, "wait_too_long")
    assert message.startswith("wait: expected at most 15 ms, found ")
    assert message.endswith(" ms over. Ask again in a second.")


def test_the_deadline_is_answered_with_504() -> None:
    status, code, message = asyncio.run(wait_50_ms(max_wait_ms=5000, deadline_ms=20)).error
    assert (status, code) == (504, "deadline_exceeded")
    assert message.startswith("deadline: expected to begin within 20 ms, found ")
    assert message.endswith(" ms over. Ask again, or ask for less at once.")


def test_a_body_that_does_not_come_is_answered_with_408() -> None:
    async def scenario() -> Answer:
        gate, _, _ = make_gate(body_timeout_ms=50)
        parts = [{"type": "http.request", "body": b"half", "more_body": True}]

        async def stall() -> Message:
            if parts:
                return parts.pop()
            await asyncio.sleep(60)
            raise AssertionError("nobody cut it off")

        task = asyncio.create_task(ask(gate, None, stall))
        await asyncio.sleep(0)
        now_s = asyncio.get_running_loop().time()
        gate.sweep(now_s)
        await asyncio.sleep(0)
        assert not task.done()
        gate.sweep(now_s + 0.1)
        answer = await asyncio.wait_for(task, 5)
        assert (await ask(gate)).status == 200
        return answer

    answer = asyncio.run(scenario())
    assert answer.error == (
        408,
        "body_timeout",
        "body: expected all of it within 50 ms, found 4 bytes.",
    )
    assert answer.headers[b"connection"] == b"close"


def test_a_client_that_leaves_before_its_body_is_complete_is_forgotten() -> None:
    gate, _, meters = make_gate()

    async def leave() -> Message:
        return {"type": "http.disconnect"}

    assert asyncio.run(ask(gate, None, leave)).messages == []
    assert asyncio.run(ask(gate)).status == 200
    assert meters.flush() == {}


def test_bodies_that_wait_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving_compare.server.gate.MAX_HELD_BYTES", 30)

    async def scenario() -> tuple[Answer, int]:
        gate, _, _ = make_gate()
        tasks = await wait_in_line(gate, 2)
        refused = await ask(gate)
        gate.turnstile.leave(computed=False)
        await asyncio.gather(*tasks)
        return refused, gate._held_bytes

    refused, held = asyncio.run(scenario())
    assert refused.error == (
        429,
        "queue_full",
        "queue: expected at most 30 bytes of waiting bodies, found 44. Ask again in a second.",
    )
    assert held == 0


def test_a_refusal_of_the_answering_part_is_sent_and_gives_the_turn_back() -> None:
    async def respond(scope: Scope, body: bytes) -> Reply:
        raise InputError("empty", "instances: expected at least one, found none.")

    gate, _, meters = make_gate(respond)

    async def twice() -> list[tuple[int, str, str]]:
        return [(await ask(gate)).error for _ in range(2)]

    expected = (400, "empty", "instances: expected at least one, found none.")
    assert asyncio.run(twice()) == [expected, expected]
    assert meters.flush() == {"empty": 2}


def test_an_error_of_the_servers_own_is_500_with_an_id_that_the_log_has(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def respond(scope: Scope, body: bytes) -> Reply:
        raise KeyError("a mistake")

    gate, _, meters = make_gate(respond)
    with caplog.at_level(logging.ERROR, "gatetable.server"):
        answer = asyncio.run(ask(gate))
    status, code, message = answer.error
    request_id = answer.headers[b"x-request-id"].decode()
    assert (status, code) == (500, "internal_error")
    assert message == (
        f"server: expected an answer, found an error of its own. Its log has it as {request_id}."
    )
    (record,) = caplog.records
    assert record.__dict__["fields"] == {"request_id": request_id}
    assert "stone" not in caplog.text
    assert meters.flush() == {"internal_error": 1}
