"""`GET /`: a page on which a person types a text and sees all backends answer side by side.

One document with its style and script inside, held to them by a Content-Security-Policy of their
hashes; `page.html`, `page.css` and `page.js` are its parts. The backends listen on ports of their
own, which are other origins to a browser: `SiblingOrigins` lets this server's own pages, and no
others, read their answers.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving_compare.server.config import Sibling
from serving_compare.server.model_slot import ModelSlot

MAX_EXAMPLES = 4
_EXAMPLE = re.compile(r"(?=.{12,34}$)[a-z]+( [a-z]+){2,}")
"""Plain words; what is shorter says little, what is longer does not fit a button."""
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]")
_LOADING = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>gatetable</title>'
    "<p>The model is loading. This page tries again.</p></html>"
)


class Parts(NamedTuple):
    """The page with its style and script in place, and the CSP sources that allow them.

    Attributes:
        document: HTML in which the model's name and the examples are still to be put.
        style_source: For `style-src`.
        script_source: For `script-src`.
    """

    document: str
    style_source: str
    script_source: str


@lru_cache(maxsize=1)
def read_parts() -> Parts:
    """Return the page's parts, put together once a process."""
    folder = Path(__file__).parent
    document, style, script = (
        (folder / f"page.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")
    )
    document = document.replace("/*STYLE*/", style).replace("/*SCRIPT*/", script)
    return Parts(document, _hash_source(style), _hash_source(script))


def _hash_source(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


@lru_cache(maxsize=4)
def find_examples(golden_path: Path) -> tuple[str, ...]:
    """Return a few of an artifact's golden texts that read well on a button, possibly none."""
    with golden_path.open(encoding="utf-8") as file:
        texts = dict.fromkeys(json.loads(line)["text"] for line in file)
    fitting = [text for text in texts if _EXAMPLE.fullmatch(text)]
    # Probes are sorted by length: take short and long ones.
    return tuple(fitting[:: max(1, -(-len(fitting) // MAX_EXAMPLES))])


def format_page(name: str, examples: Sequence[str]) -> str:
    """Return the page's HTML for a model."""
    buttons = "".join(
        f'<button type="button">{html.escape(example)}</button>' for example in examples
    )
    document = read_parts().document.replace("/*MODEL*/", html.escape(name))
    return document.replace("<!--EXAMPLES-->", buttons)


def format_policy(host: str, ports: Sequence[int]) -> str:
    """Return the Content-Security-Policy of the page as it was opened under `host`.

    Args:
        host: The request's Host; one that is no plain name or address allows this origin alone.
        ports: Where the backends listen.
    """
    parts = read_parts()
    name = _split_port(host)
    sources = ["'self'"]
    if _HOST.fullmatch(name):
        sources += [f"{scheme}://{name}:{port}" for port in ports for scheme in ("http", "ws")]
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {parts.script_source}",
            f"style-src {parts.style_source}",
            "img-src data:",
            f"connect-src {' '.join(sources)}",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
        )
    )


def _split_port(host: str) -> str:
    """Return a Host without its port, brackets of an IPv6 address kept."""
    return re.sub(r":[0-9]*$", "", host)


def _ports(siblings: Sequence[Sibling]) -> list[int]:
    return [urlsplit(sibling.url).port or 80 for sibling in siblings]


def router_for(slot: ModelSlot, siblings: Sequence[Sibling]) -> APIRouter:
    """Return the route of the page."""
    router = APIRouter()
    ports = _ports(siblings)

    @router.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def page(request: Request) -> HTMLResponse:
        if not slot.is_loaded:
            return HTMLResponse(_LOADING, 503, {"Refresh": "1", "Retry-After": "1"})
        model = slot.current
        return HTMLResponse(
            format_page(model.name, find_examples(model.artifact.golden_path)),
            headers={
                "Content-Security-Policy": format_policy(request.headers.get("host", ""), ports),
                # Both together make the page "isolated", which gives its clock 5 us instead of
                # 100 us.
                "Cross-Origin-Opener-Policy": "same-origin",
                "Cross-Origin-Embedder-Policy": "require-corp",
                "X-Content-Type-Options": "nosniff",
                "Referrer-Policy": "no-referrer",
                "Cache-Control": "no-store",
            },
        )

    return router


class SiblingOrigins:
    """ASGI middleware: pages of this server may read every backend's answers, others may not.

    It belongs around everything else, so that refusals can be read too. An origin is a sibling's
    if it has the host name this request was sent to, and the port of one of the backends.

    Args:
        app: What answers.
        siblings: All backends of this server.
    """

    def __init__(self, app: ASGIApp, siblings: Sequence[Sibling]) -> None:
        self._app = app
        self._ports = frozenset(_ports(siblings))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer preflights, mark answers to siblings, refuse others' WebSockets."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        for name, _ in scope["headers"]:
            if name == b"origin":
                break
        else:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers["origin"]
        is_sibling = self._is_sibling(origin, headers.get("host", ""))
        if scope["type"] == "websocket":
            # Browsers ask nobody before they open one, so it is for the server to refuse.
            if is_sibling:
                await self._app(scope, receive, send)
            else:
                await send({"type": "websocket.close", "code": 1008})
            return
        if not is_sibling:
            await self._app(scope, receive, send)
            return
        if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            await self._answer_preflight(origin, send)
            return

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                marked = MutableHeaders(scope=message)
                marked["Access-Control-Allow-Origin"] = origin
                marked["Access-Control-Expose-Headers"] = (
                    "Server-Timing, X-Model-Version, Retry-After"
                )
                marked.add_vary_header("Origin")
            await send(message)

        await self._app(scope, receive, send_marked)

    def _is_sibling(self, origin: str, host: str) -> bool:
        try:
            parts = urlsplit(origin)
            port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
        except ValueError:
            return False
        name = _split_port(parts.netloc)
        return port in self._ports and name.lower() == _split_port(host).lower()

    async def _answer_preflight(self, origin: str, send: Send) -> None:
        fields = {
            "access-control-allow-origin": origin,
            "access-control-allow-methods": "GET, POST",
            "access-control-allow-headers": "Content-Type",
            "access-control-max-age": "600",
            "vary": "Origin",
        }
        await send(
            {
                "type": "http.response.start",
                "status": 204,
                "headers": [(key.encode(), value.encode()) for key, value in fields.items()],
            }
        )
        await send({"type": "http.response.body"})
