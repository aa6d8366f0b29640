"""Error answers have one form."""

from __future__ import annotations

import json

from serving_compare.server.errors import InputError, RequestError, format_error


def test_an_error_is_a_code_and_a_sentence() -> None:
    assert json.loads(format_error("empty", 'a "quoted" ü')) == {
        "error": {"code": "empty", "message": 'a "quoted" ü'}
    }


def test_wrong_input_is_a_400() -> None:
    error = InputError("empty", "nothing there.")
    assert (error.status, error.code, error.headers, str(error)) == (
        400,
        "empty",
        (),
        "nothing there.",
    )
    assert isinstance(error, RequestError)
