"""From a URL and a body to the bytes of a request, made once and sent many times.

Bodies are known for two protocols: this project's `:predict` and the Open Inference Protocol's
`/infer`. Anything else gets the bytes it is given.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from serving_compare.load.errors import UrlError

JSON_TYPE = "application/json"


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where requests go: host, port, and the path with its query."""

    host: str
    port: int
    path: str

    @property
    def url(self) -> str:
        """The URL again, without what was not needed."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}{self.path}"


def read_url(url: str) -> Target:
    """Return the parts of an http URL.

    Raises:
        UrlError: It is not one.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as err:
        raise UrlError(f"URL: expected http://host:port/path, found {url!r} ({err}).") from err
    if parts.scheme != "http" or not host or parts.username is not None:
        raise UrlError(
            f"URL: expected http://host:port/path, found {url!r}. Encryption would be timed too: "
            "load the server behind the proxy."
        )
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not path.isascii() or any(char <= " " for char in path):
        raise UrlError(f"URL: expected a path in percent-encoded ASCII, found {path!r}.")
    return Target(host=host, port=port or 80, path=path)


def format_request(
    target: Target, body: bytes | None, *, content_type: str = JSON_TYPE, method: str | None = None
) -> bytes:
    """Return one whole HTTP/1.1 request.

    Args:
        target: Where it goes.
        body: Sent as it is; None for a request without one.
        content_type: Of the body.
        method: Default: POST with a body, GET without.
    """
    host = f"[{target.host}]" if ":" in target.host else target.host
    lines = [
        f"{method or ('GET' if body is None else 'POST')} {target.path} HTTP/1.1",
        f"Host: {host}:{target.port}",
    ]
    if body is not None:
        lines += [f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + (body or b"")


def format_body(target: Target, texts: Sequence[str], *, k: int = 3) -> bytes:
    """Return a JSON body that asks for the k best labels of `texts`, by what the path ends in.

    Raises:
        UrlError: The path is of neither protocol.
    """
    path = target.path.partition("?")[0]
    if path.endswith(":predict"):
        instances = texts[0] if len(texts) == 1 else list(texts)
        return _json_bytes({"instances": instances, "k": k})
    if path.endswith("/infer"):
        tensor = {"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": list(texts)}
        return _json_bytes({"inputs": [tensor], "parameters": {"k": k}})
    raise UrlError(
        f"URL: expected a path that ends in :predict or /infer to send texts to, found {path!r}. "
        "Pass --body FILE with what the server wants."
    )


def _json_bytes(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
