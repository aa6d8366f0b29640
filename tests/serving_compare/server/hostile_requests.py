"""A corpus of requests that no server should answer with 2xx or 5xx, hang on, or die of.

`make_cases` gives them for a model's name, vocabulary and limits. Each is raw bytes to be sent on a
fresh connection, since most HTTP libraries refuse to send such things.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

BAD = frozenset({400})
ANY = frozenset(range(400, 500))


@dataclass(frozen=True, kw_only=True)
class Case:
    """One hostile request.

    Attributes:
        name: What is wrong with it.
        raw: All that is sent.
        statuses: What may come back, as the first and only response.
        may_close: Whether closing the connection without any response is right as well.
        ends: Whether the client says that it will send no more (half-close) afterwards.
        is_json: Whether the response must be the project's JSON error.
        code: `error.code` that must come back, if it matters.
    """

    name: str
    raw: bytes
    statuses: frozenset[int] = BAD
    may_close: bool = False
    ends: bool = False
    is_json: bool = True
    code: str | None = None


def request(
    path: str,
    body: bytes = b"",
    *,
    method: str = "POST",
    content_type: str | None = "application/json",
    headers: dict[str, str] | None = None,
    length: str | None = None,
) -> bytes:
    """Return an HTTP/1.1 request; `length` replaces the right Content-Length."""
    fields = {"Host": "127.0.0.1", "Content-Length": length or str(len(body))}
    if content_type is not None:
        fields["Content-Type"] = content_type
    fields |= headers or {}
    lines = [f"{method} {path} HTTP/1.1", *(f"{key}: {value}" for key, value in fields.items())]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def _json_cases(good: bytes) -> Iterator[tuple[str, bytes]]:
    """Bodies that are no JSON, or none that a careful reader takes; bad on every POST path."""
    yield "empty body", b""
    yield "blank body", b" \r\n\t "
    yield "cut off", good[:-1]
    yield "cut off in a string", good[: good.index(b'"', 2) - 1]
    yield "something behind the end", good + b"}"
    yield "two documents", good + good
    yield "no JSON at all", b"instances=cat"
    yield (
        "XML",
        b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
    )
    yield "pickle", b"\x80\x04\x95\x0f\x00\x00\x00\x00\x00\x00\x00\x8c\x08builtins."
    yield "single quotes", good.replace(b'"', b"'")
    yield "comment", b"/* */" + good
    yield "trailing comma", good[:-1] + b",}"
    yield "byte order mark of UTF-16", good.decode().encode("utf-16")
    yield "UTF-32", good.decode().encode("utf-32-le")
    yield "NUL in front", b"\0" + good
    yield "invalid UTF-8 in a string", good.replace(b"cat", b"c\xff\xfet")
    yield "overlong UTF-8", good.replace(b"cat", b"\xc0\xaf")
    yield "surrogate as UTF-8", good.replace(b"cat", b"\xed\xa0\x80")
    yield "code point beyond Unicode", good.replace(b"cat", b"\xf4\x90\x80\x80")
    yield "cut off UTF-8", good.replace(b"cat", b"\xf0\x9f\x98")
    yield "lone surrogate as escape", good.replace(b"cat", rb"\ud800")
    yield "low surrogate first", good.replace(b"cat", rb"\udc00\ud800")
    yield "bad escape", good.replace(b"cat", rb"\x41")
    yield "cut off escape", good.replace(b"cat", rb"\u12")
    yield "raw control character", good.replace(b"cat", b"a\x01b")
    yield "raw newline in a string", good.replace(b"cat", b"a\nb")
    yield "10,000 arrays deep", b"[" * 10_000 + b"]" * 10_000
    yield "100,000 arrays deep", b"[" * 100_000
    yield "10,000 objects deep", b'{"a":' * 10_000 + b"1" + b"}" * 10_000
    for value in (b"null", b"true", b"7", b'"cat"', b"[]", b"{}", b"NaN", b"-Infinity", b"1e999"):
        yield f"the document is {value.decode()}", value


def _predict_cases(vocab_size: int, max_tokens: int, max_batch: int) -> Iterator[tuple[str, Any]]:
    """Values of the whole body of `:predict` that are JSON and wrong."""
    long_number = 10**400
    bad_instances: dict[str, Any] = {
        "null": None,
        "true": True,
        "a number": 5,
        "a float": 1.5,
        "an object": {"text": "cat"},
        "nothing": [],
        "an empty row": [[]],
        "a row and an empty one": [[1], []],
        "three levels": [[[1]]],
        "text and ids": ["cat", 1],
        "ids and text": [1, "cat"],
        "text and a row": ["cat", [1]],
        "a row and text": [[1], "cat"],
        "a row of texts": [["cat"]],
        "a null among texts": ["cat", None],
        "a null in a row": [[1, None]],
        "true as an id": [True],
        "true in a row": [[True]],
        "a float as an id": [1.5],
        "a whole float as an id": [[1.0]],
        "a string as an id": [["1"]],
        "an object as an id": [[{}]],
        "an id below zero": [-1],
        "an id below zero in a row": [[1, -1]],
        "the least int32": [[-(2**31)]],
        "an id at V": [[vocab_size]],
        "an id above V in the second row": [[1], [1, vocab_size + 7]],
        "an id of 2**31": [[2**31]],
        "an id of 2**32 + 1": [[2**32 + 1]],
        "an id of 2**63": [[2**63]],
        "an id of 2**64": [[2**64]],
        "an id of 400 digits": [[long_number]],
        "minus 400 digits": [[-long_number]],
        "one id too many": [[1] * (max_tokens + 1)],
        "a flat row too long": [1] * (max_tokens + 1),
        "100,000 ids": [[1] * 100_000],
        "one text too many": ["cat"] * (max_batch + 1),
        "one row too many": [[1]] * (max_batch + 1),
        "100,000 texts": ["a"] * 100_000,
        "100,000 empty rows": [[]] * 100_000,
    }
    for name, value in bad_instances.items():
        yield f"instances: {name}", {"instances": value, "k": 1}
    for name, k in {
        "zero": 0,
        "below zero": -1,
        "null": None,
        "true": True,
        "a float": 1.5,
        "a string": "3",
        "a list": [3],
        "huge": 10**30,
        "400 digits": long_number,
    }.items():
        yield f"k: {name}", {"instances": "cat", "k": k}
    for name, value in {"null": None, "a string": "yes", "a number": 1, "a list": []}.items():
        yield f"return_tokens: {name}", {"instances": "cat", "k": 1, "return_tokens": value}
    yield "no instances", {"k": 1}
    yield "another spelling", {"Instances": "cat", "k": 1}
    yield "an unknown key", {"instances": "cat", "k": 1, "temperature": 1}
    yield "a prototype key", {"instances": "cat", "k": 1, "__proto__": {"k": 1}}


def _infer_cases(
    vocab_size: int, max_tokens: int, max_batch: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Values of the whole body of `/infer` that are JSON and wrong."""

    def text(**changes: Any) -> dict[str, Any]:
        return {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["cat"]} | changes

    def tokens(**changes: Any) -> dict[str, Any]:
        return {"name": "tokens", "shape": [1, 2], "datatype": "INT32", "data": [1, 2]} | changes

    def lengths(**changes: Any) -> dict[str, Any]:
        return {"name": "lengths", "shape": [1], "datatype": "INT32", "data": [2]} | changes

    bad_inputs: dict[str, Any] = {
        "null": None,
        "an object": {},
        "none": [],
        "a number in the list": [1],
        "an unknown name": [text(name="title")],
        "the same twice": [text(), text()],
        "texts and tokens": [text(), tokens(), lengths()],
        "tokens without lengths": [tokens()],
        "lengths without tokens": [lengths()],
        "text of another type": [text(datatype="FP32")],
        "an unknown datatype": [text(datatype="STRING")],
        "no datatype": [{"name": "text", "shape": [1], "data": ["cat"]}],
        "no shape": [{"name": "text", "datatype": "BYTES", "data": ["cat"]}],
        "no data": [{"name": "text", "shape": [1], "datatype": "BYTES"}],
        "no name": [{"shape": [1], "datatype": "BYTES", "data": ["cat"]}],
        "a shape below zero": [text(shape=[-1])],
        "a shape of zero": [text(shape=[0], data=[])],
        "a shape that does not fit": [text(shape=[2])],
        "a huge shape": [text(shape=[2**63])],
        "a shape of 400 digits": [text(shape=[10**400])],
        "a shape of products": [tokens(shape=[2**32, 2**32]), lengths()],
        "a shape of floats": [text(shape=[1.0])],
        "a shape of strings": [text(shape=["1"])],
        "too many dimensions": [text(shape=[1, 1, 1])],
        "no dimension": [text(shape=[])],
        "data null": [text(data=None)],
        "data a string": [text(data="cat")],
        "data numbers": [text(data=[1])],
        "data null inside": [text(data=[None])],
        "data nested too deep": [text(data=[[["cat"]]])],
        "data ragged": [tokens(shape=[2, 2], data=[[1], [1, 2, 3]]), lengths(shape=[2])],
        "ids as strings": [tokens(data=["1", "2"]), lengths()],
        "ids as floats": [tokens(data=[1.5, 2.0]), lengths()],
        "ids as truth": [tokens(data=[True, False]), lengths()],
        "an id below zero": [tokens(data=[1, -1]), lengths()],
        "an id at V": [tokens(data=[1, vocab_size]), lengths()],
        "an id of 2**32 + 1": [tokens(data=[1, 2**32 + 1]), lengths()],
        "an id of 400 digits": [tokens(data=[1, 10**400]), lengths()],
        "a length below zero": [tokens(), lengths(data=[-1])],
        "a length beyond T": [tokens(), lengths(data=[3])],
        "a length as a float": [tokens(), lengths(data=[2.0])],
        "a length too few": [
            tokens(shape=[2, 1]),
            lengths(),
        ],
        "lengths of two dimensions": [tokens(), lengths(shape=[1, 1])],
        "rows too long": [
            tokens(shape=[1, max_tokens + 1], data=[1] * (max_tokens + 1)),
            lengths(data=[max_tokens + 1]),
        ],
        "rows of no width": [tokens(shape=[1, 0], data=[]), lengths(data=[0])],
        "too many rows": [text(shape=[max_batch + 1], data=["a"] * (max_batch + 1))],
        "tokens as INT64": [tokens(datatype="INT64"), lengths()],
        "binary data": [
            {
                "name": "text",
                "shape": [1],
                "datatype": "BYTES",
                "parameters": {"binary_data_size": 7},
            }
        ],
        "shared memory": [
            {
                "name": "text",
                "shape": [1],
                "datatype": "BYTES",
                "parameters": {"shared_memory_region": "a", "shared_memory_byte_size": 7},
            }
        ],
    }
    for name, value in bad_inputs.items():
        yield f"inputs: {name}", {"inputs": value}
    good = [text()]
    yield "no inputs", {"outputs": []}
    yield "id: a number", {"id": 7, "inputs": good}
    yield "parameters: a list", {"inputs": good, "parameters": []}
    yield "outputs: a string", {"inputs": good, "outputs": "probabilities"}
    yield "outputs: unknown", {"inputs": good, "outputs": [{"name": "logits"}]}
    yield "outputs: no name", {"inputs": good, "outputs": [{}]}
    yield (
        "outputs: the same twice",
        {"inputs": good, "outputs": [{"name": "labels"}, {"name": "labels"}]},
    )
    for name, k in {"zero": 0, "a string": "3", "true": True, "huge": 10**30}.items():
        yield f"parameters.k: {name}", {"inputs": good, "parameters": {"k": k}}


def _http_cases(predict: str, name: str, good: bytes, max_body: int) -> Iterator[Case]:
    """Whole requests that are HTTP, and wrong."""
    for method in ("GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE"):
        yield Case(
            name=f"{method} on predict",
            raw=request(predict, method=method),
            # A path that names a model called "tiny:predict" may also be said not to exist.
            statuses=frozenset({404, 405}),
            is_json=method != "HEAD",
        )
    yield Case(name="POST on livez", raw=request("/livez", good), statuses=frozenset({405}))
    yield Case(name="DELETE on metrics", raw=request("/metrics", method="DELETE"), statuses=ANY)
    for path in (
        "/v1/models/absent:predict",
        f"/v1/models/{name}:explain",
        f"/v1/models/{name}",
        f"/v1/models/{name}%00:predict",
        f"/v1/models/{name}/../../etc/passwd",
        "/v1/models/..%2f..%2fetc%2fpasswd:predict",
        "/v1/models/:predict",
        "/v1/models//:predict",
        "/v1/models/" + "a" * 5000 + ":predict",
        "/v1/models/%ff%fe:predict",
        "/v1/models/%:predict",
        "/V1/models/tiny:predict",
        f"//{predict}",
        f"{predict}/",
        f"{predict}%0d%0aX-Injected:%20yes",
        "/v2/models/absent/infer",
        f"/v2/models/{name}/versions/999/infer",
        f"/v2/models/{name}/versions/-1/infer",
        f"/v2/models/{name}/versions/{'9' * 400}/infer",
        "/.git/config",
    ):
        yield Case(
            name=f"POST {path[:40]}",
            raw=request(path, good),
            statuses=frozenset({400, 404, 405}),
        )
    for kind in (
        *("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a"),
        *("application/octet-stream", "application/xml", "", ";", "json", "application/jsonp"),
        *("text/html; charset=application/json", "application/json, text/plain", "\xff/\xfe"),
    ):
        yield Case(
            name=f"content type {kind!r}",
            raw=request(predict, good, content_type=kind),
            statuses=frozenset({415}),
        )
    yield Case(
        name="no content type",
        raw=request(predict, good, content_type=None),
        statuses=frozenset({415}),
    )
    yield Case(
        name="charset that is not UTF-8",
        raw=request(predict, good, content_type="application/json; charset=utf-16"),
        statuses=frozenset({415}),
    )
    bomb = zlib.compress(b" " * (64 << 20))
    for encoding, body in {
        "gzip": gzip.compress(good),
        "deflate": bomb,
        "br": good,
        "identity, gzip": good,
        "\xff": good,
    }.items():
        yield Case(
            name=f"content encoding {encoding!r}",
            raw=request(predict, body, headers={"Content-Encoding": encoding}),
            statuses=frozenset({400, 415}),
        )
    padded = good[:-1] + b" " * max_body + b"}"
    yield Case(name="body above the limit", raw=request(predict, padded), statuses=frozenset({413}))
    yield Case(
        name="body above the limit on infer",
        raw=request(f"/v2/models/{name}/infer", padded),
        statuses=frozenset({413}),
    )
    yield Case(
        name="announces a terabyte",
        raw=request(predict, length=str(1 << 40)),
        statuses=frozenset({413}),
    )
    yield Case(
        name="announces 2**64 + 1 bytes",
        raw=request(predict, length=str(2**64 + 1)),
        statuses=frozenset({400, 413}),
        may_close=True,
        is_json=False,
    )
    chunk = b"%x\r\n" % (1 << 16) + b" " * (1 << 16) + b"\r\n"
    yield Case(
        name="chunked body above the limit",
        raw=_chunked(predict, chunk * (max_body // (1 << 16) + 2) + b"0\r\n\r\n"),
        statuses=frozenset({413}),
    )
    yield Case(
        name="10,000 chunks of one byte that are no JSON",
        raw=_chunked(predict, b"1\r\n{\r\n" * 10_000 + b"0\r\n\r\n"),
    )
    yield Case(
        name="expects something else than 100-continue",
        raw=request(predict, b"{", headers={"Expect": "200-maybe"}),
        statuses=frozenset({400, 417}),
    )
    yield Case(name="no length and no body", raw=_raw(predict, b"", b""), statuses=ANY)
    yield Case(
        name="HTTP/1.0 without a length",
        raw=f"POST {predict} HTTP/1.0\r\nContent-Type: application/json\r\n\r\n".encode(),
        statuses=ANY,
    )


def _raw(predict: str, fields: bytes, body: bytes) -> bytes:
    head = f"POST {predict} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n".encode()
    return head + fields + b"\r\n" + body


def _chunked(predict: str, body: bytes) -> bytes:
    return _raw(predict, b"Transfer-Encoding: chunked\r\n", body)


def _framing_cases(predict: str, good: bytes) -> Iterator[tuple[str, bytes]]:
    """Bytes that are no HTTP/1.1, or that two readers could cut in two ways."""
    size = len(good)
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    yield "garbage", b"\x00\x01\x02\xff" * 64 + b"\r\n\r\n"
    yield "TLS client hello", bytes.fromhex("16030100c4010000c00303") + bytes(190)
    yield "HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9)
    yield "SSH banner", b"SSH-2.0-OpenSSH_9.6\r\n\r\n"
    yield "HTTP/0.9", f"POST {predict}\r\n\r\n".encode()
    yield "no path", b"GET HTTP/1.1\r\nHost: a\r\n\r\n"
    yield "unknown version", b"GET / HTTP/9.9\r\nHost: a\r\n\r\n"
    yield "lower-case method", f"post {predict} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    yield "unknown method", f"BREW {predict} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    yield "NUL in the path", b"GET /\0livez HTTP/1.1\r\nHost: a\r\n\r\n"
    yield "space in the path", b"GET / livez HTTP/1.1\r\nHost: a\r\n\r\n"
    yield "header without a colon", b"GET /livez HTTP/1.1\r\nHost a\r\n\r\n"
    yield "header with a space in its name", b"GET /livez HTTP/1.1\r\nHo st: a\r\n\r\n"
    yield (
        "header with a space before the colon",
        _raw(predict, b"Content-Length : %d\r\n" % size, good),
    )
    yield "header name of nothing", b"GET /livez HTTP/1.1\r\n: a\r\n\r\n"
    yield "NUL in a header", b"GET /livez HTTP/1.1\r\nHost: a\r\nX-A: b\0c\r\n\r\n"
    yield "carriage return in a header", b"GET /livez HTTP/1.1\r\nHost: a\r\nX-A: b\rc\r\n\r\n"
    yield (
        "two lengths that differ",
        _raw(predict, b"Content-Length: %d\r\nContent-Length: 0\r\n" % size, good),
    )
    for value in (b"-1", b"+5", b"0x10", b"1e3", b"5, 6", b"5 6", b"", b"five", b"9" * 40):
        yield f"length {value[:12]!r}", _raw(predict, b"Content-Length: %b\r\n" % value, good)
    both = b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n"
    yield "length and chunks", _raw(predict, both % 5, b"0\r\n\r\n" + smuggled)
    yield (
        "chunks and length",
        _raw(
            predict,
            b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
            b"5c\r\n" + smuggled + b"0\r\n\r\n",
        ),
    )
    for coding in (
        *(b"xchunked", b"chunked, identity", b"identity", b"chunked, chunked", b"gzip"),
        *(b"\x0bchunked", b"chunke", b'"chunked"'),
    ):
        yield (
            f"transfer encoding {coding!r}",
            _raw(predict, b"Transfer-Encoding: %b\r\n" % coding, b"0\r\n\r\n" + smuggled),
        )
    yield (
        "obsolete folding",
        _raw(predict, b"Transfer-Encoding:\r\n chunked\r\nContent-Length: 3\r\n", b"0\r\n\r\n"),
    )
    for name, body in {
        "chunk size that is no number": b"zz\r\n" + good + b"\r\n0\r\n\r\n",
        "chunk size below zero": b"-5\r\n" + good + b"\r\n0\r\n\r\n",
        "chunk size of 2**64": b"10000000000000000\r\n" + good + b"\r\n0\r\n\r\n",
        "chunk size with 0x": b"0x5\r\nabcde\r\n0\r\n\r\n",
        "chunk longer than its size": b"2\r\n" + good + b"\r\n0\r\n\r\n",
        "chunk without an end of line": b"%x\r\n" % size + good + b"0\r\n\r\n",
        "empty chunk size": b"\r\n" + good + b"\r\n0\r\n\r\n",
    }.items():
        yield name, _chunked(predict, body)


def make_cases(name: str, *, vocab_size: int, max_tokens: int, limits: Limits) -> list[Case]:
    """Return the whole corpus.

    Args:
        name: Of the model that is served.
        vocab_size: V.
        max_tokens: More ids than that are refused.
        limits: What the server was started with.
    """
    predict, infer = f"/v1/models/{name}:predict", f"/v2/models/{name}/infer"
    good = json.dumps({"instances": "cat", "k": 1}).encode()
    good_infer = json.dumps(
        {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["cat"]}]}
    ).encode()
    cases = []
    for path, body in ((predict, good), (infer, good_infer)):
        cases += [
            Case(name=f"{path[:3]} {what}", raw=request(path, bad))
            for what, bad in _json_cases(body)
        ]
    for path, bodies in (
        (predict, _predict_cases(vocab_size, max_tokens, limits.max_batch)),
        (infer, _infer_cases(vocab_size, max_tokens, limits.max_batch)),
    ):
        cases += [
            Case(name=f"{path[:3]} {what}", raw=request(path, json.dumps(bad).encode()))
            for what, bad in bodies
        ]
    cases += _http_cases(predict, name, good, limits.max_body_bytes)
    cases += [
        Case(
            name=what,
            raw=raw,
            statuses=ANY | {501, 505},
            may_close=True,
            ends=True,
            is_json=False,
        )
        for what, raw in _framing_cases(predict, good)
    ]
    return cases


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Options of the server under test that the corpus goes beyond."""

    max_body_bytes: int = 1 << 20
    max_batch: int = 256
