from __future__ import annotations

import json

import pytest

from serving_compare.load.errors import UrlError
from serving_compare.load.request import Target, format_body, format_request, read_url


def test_a_url_is_taken_apart_and_put_together() -> None:
    url = "http://127.0.0.1:8000/v1/models/wordnet31:predict?x=1"
    target = read_url(url)
    assert target == Target(host="127.0.0.1", port=8000, path="/v1/models/wordnet31:predict?x=1")
    assert target.url == url
    assert read_url("http://[::1]:9/a").url == "http://[::1]:9/a"
    assert read_url("http://example.org") == Target(host="example.org", port=80, path="/")


@pytest.mark.parametrize(
    "url", ["", "localhost:8000/x", "https://host/x", "http://", "http://u:p@host/", "http://h:x/"]
)
def test_what_is_no_http_url_is_refused(url: str) -> None:
    with pytest.raises(UrlError, match="URL: expected http://host:port/path, found"):
        read_url(url)


@pytest.mark.parametrize("path", ["/ä", "/a b", "/a\r\nX: y"])
def test_a_path_that_would_not_fit_into_a_request_line_is_refused(path: str) -> None:
    # urlsplit itself drops line ends; nothing of them may reach the request.
    try:
        target = read_url(f"http://h{path}")
    except UrlError as err:
        assert "expected a path in percent-encoded ASCII" in str(err)
    else:
        assert "\r" not in target.path
        assert "\n" not in target.path


def test_a_request_is_what_http_wants() -> None:
    target = Target(host="::1", port=80, path="/p")
    assert format_request(target, b"{}") == (
        b"POST /p HTTP/1.1\r\nHost: [::1]:80\r\nContent-Type: application/json\r\n"
        b"Content-Length: 2\r\n\r\n{}"
    )
    assert format_request(target, None) == b"GET /p HTTP/1.1\r\nHost: [::1]:80\r\n\r\n"
    assert format_request(target, b"", method="PUT").startswith(b"PUT /p")


def test_the_body_follows_the_protocol_the_path_names() -> None:
    ours = read_url("http://h/v1/models/m:predict?trace=1")
    assert json.loads(format_body(ours, ["é"])) == {"instances": "é", "k": 3}
    assert json.loads(format_body(ours, ["a", "b"], k=1)) == {"instances": ["a", "b"], "k": 1}
    open_inference = read_url("http://h/v2/models/m/infer")
    assert json.loads(format_body(open_inference, ["a", "b"], k=2)) == {
        "inputs": [{"name": "text", "shape": [2], "datatype": "BYTES", "data": ["a", "b"]}],
        "parameters": {"k": 2},
    }
    with pytest.raises(
        UrlError, match=r"expected a path that ends in :predict or /infer .* found '/x'\. Pass"
    ):
        format_body(read_url("http://h/x"), ["a"])
