"""The page as it is served: nothing from elsewhere, nothing unescaped, read by its own origins."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from typing import Any

import pytest

from serving_compare.server.config import Sibling
from serving_compare.server.page import (
    SiblingOrigins,
    find_examples,
    format_page,
    format_policy,
    read_parts,
)
from tests.serving_compare.server.running import GOLDEN

SIBLINGS = (Sibling("lookup", "http://127.0.0.1:8000"), Sibling("onnx", "http://127.0.0.1:8001"))


def test_the_page_loads_nothing_from_elsewhere() -> None:
    page = format_page("tiny", ["a cat"])
    addresses = re.findall(r"[a-z]+://[^\"'` )]+", page)
    assert set(addresses) == {"http://www.w3.org/2000/svg"}  # a name, not a place
    assert re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=[\"'](?!data:)", page) == []
    assert "/*" not in re.sub(r"<(script|style)>.*?</\1>", "", page, flags=re.S)


def test_the_policy_allows_exactly_the_style_and_the_script_inside() -> None:
    page, policy = format_page("tiny", []), format_policy("localhost:8000", [8000, 8001])
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        found = re.findall(f"<{tag}>(.*?)</{tag}>", page, flags=re.S)
        assert len(found) == 1
        digest = base64.b64encode(hashlib.sha256(found[0].encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert (
        "connect-src 'self' http://localhost:8000 ws://localhost:8000 http://localhost:8001 "
        "ws://localhost:8001;"
    ) in policy


@pytest.mark.parametrize("host", ["", "a; script-src *", "a b", "a'b", "[::1", "ex\xe4mple", "a/b"])
def test_a_host_that_is_none_adds_nothing_to_the_policy(host: str) -> None:
    assert "connect-src 'self';" in format_policy(host, [8000])


def test_an_ipv6_host_keeps_its_brackets() -> None:
    assert "connect-src 'self' http://[::1]:8000 " in format_policy("[::1]:8000", [8000])


def test_names_and_examples_are_escaped() -> None:
    page = format_page('"><script>alert(1)</script>', ["<b>&'\""])
    assert "<script>alert" not in page
    assert 'data-model="&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;"' in page
    assert '<button type="button">&lt;b&gt;&amp;&#x27;&quot;</button>' in page


def test_examples_are_plain_words_out_of_the_golden_texts() -> None:
    examples = find_examples(GOLDEN / "golden.jsonl")
    assert 1 <= len(examples) <= 4
    golden = (GOLDEN / "golden.jsonl").read_text(encoding="utf-8")
    for example in examples:
        assert re.fullmatch("[a-z]+( [a-z]+)+", example)
        assert f'"{example}"' in golden


def test_the_page_is_one_read_a_process() -> None:
    assert read_parts() is read_parts()


def ask(origin: str | None, host: str = "127.0.0.1:8000", **scope: Any) -> dict[str, Any]:
    """Send a request through the middleware; return the start of the answer and what is below."""
    sent: list[Any] = []
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)
        await send({"type": "http.response.start", "status": 429, "headers": [(b"a", b"b")]})
        await send({"type": "http.response.body", "body": b""})

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", host.encode())]
    if origin is not None:
        headers.append((b"origin", origin.encode("latin-1")))
    headers += scope.pop("headers", [])
    full = {"type": "http", "method": "POST", "headers": headers} | scope
    asyncio.run(SiblingOrigins(app, SIBLINGS)(full, None, send))  # type: ignore[arg-type]
    answer = dict(sent[0].get("headers", []))
    return {"passed": bool(seen), "message": sent[0], "headers": answer}


def test_a_request_without_an_origin_passes_unchanged() -> None:
    answer = ask(None)
    assert answer["passed"]
    assert answer["headers"] == {b"a": b"b"}


@pytest.mark.parametrize("origin", ["http://127.0.0.1:8000", "http://127.0.0.1:8001"])
def test_pages_of_this_server_may_read_every_answer_refusals_too(origin: str) -> None:
    headers = ask(origin)["headers"]
    assert headers[b"access-control-allow-origin"] == origin.encode()
    assert headers[b"access-control-expose-headers"] == (
        b"Server-Timing, X-Model-Version, Retry-After"
    )
    assert headers[b"vary"] == b"Origin"


FOREIGN = [
    "http://127.0.0.1:9000",
    "http://localhost:8000",
    "http://127.0.0.1.evil.example:8000",
    "http://evil.example",
    "null",
    "",
    "http://127.0.0.1:port",
    "http://[::1",
    "http://127.0.0.1:99999999",
    "\xff://\xfe",
]


@pytest.mark.parametrize("origin", FOREIGN)
def test_other_origins_get_no_permission(origin: str) -> None:
    answer = ask(origin)
    assert answer["passed"]  # it is the browser that keeps such an answer from the page
    assert b"access-control-allow-origin" not in answer["headers"]
    preflight = [(b"access-control-request-method", b"POST")]
    answer = ask(origin, method="OPTIONS", headers=preflight)
    assert b"access-control-allow-origin" not in answer["headers"]
    closed = ask(origin, type="websocket")
    assert not closed["passed"]
    assert closed["message"] == {"type": "websocket.close", "code": 1008}


def test_a_preflight_of_this_servers_page_is_answered_before_the_gate() -> None:
    answer = ask(
        "http://127.0.0.1:8001",
        method="OPTIONS",
        headers=[(b"access-control-request-method", b"POST")],
    )
    assert not answer["passed"]
    assert answer["message"]["status"] == 204
    assert answer["headers"][b"access-control-allow-headers"] == b"Content-Type"
    assert answer["headers"][b"access-control-allow-methods"] == b"GET, POST"


def test_the_name_the_page_was_opened_under_counts_not_the_one_it_listens_on() -> None:
    headers = ask("http://Models.example:8001", host="models.example:8000")["headers"]
    assert headers[b"access-control-allow-origin"] == b"http://Models.example:8001"
