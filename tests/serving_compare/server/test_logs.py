"""A line of the log is one JSON object."""

from __future__ import annotations

import json
import logging

import pytest

from serving_compare.server.logs import LOGGER, JsonFormatter, log


def test_a_line_says_when_what_and_its_fields(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "gatetable.server"):
        log("swapped", version=2, text="zwei\nZeilen")
    line = JsonFormatter(backend="lookup").format(caplog.records[0])
    assert "\n" not in line
    fields = json.loads(line)
    assert fields.pop("time").endswith("+00:00")
    assert fields == {
        "level": "info",
        "event": "swapped",
        "backend": "lookup",
        "version": 2,
        "text": "zwei\nZeilen",
    }


def test_a_traceback_stays_on_its_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "gatetable.server"):
        try:
            raise ValueError("inner")
        except ValueError:
            LOGGER.exception("request_failed", extra={"fields": {"request_id": "1"}})
    line = JsonFormatter().format(caplog.records[0])
    assert "\n" not in line
    assert json.loads(line)["traceback"].endswith("ValueError: inner")
