from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from serving_compare.__main__ import main
from serving_compare.load.command import (
    describe_load,
    format_batches,
    list_problems,
    read_lines,
)
from serving_compare.load.errors import LoadError
from serving_compare.load.recording import Failure
from serving_compare.load.request import Target

from .conftest import MakeRecording

MS = 1_000_000
PREDICT = Target(host="h", port=1, path="/v1/models/m:predict")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["load", *map(str, arguments)])


def url(port: int, path: str) -> str:
    return f"http://127.0.0.1:{port}{path}"


def test_an_open_loop_prints_percentiles_lag_and_statuses(toy_port: int, tmp_path: Path) -> None:
    out = tmp_path / "load.json"
    result = run(url(toy_port, "/ok"), "--get", "--rate", 200, "--duration", 0.5, "--json", out)
    figures = json.loads(out.read_text())
    assert (figures["requests"], figures["statuses"]) == (100, {"200": 100})
    assert figures["failed_share"] == 0
    # Void or not is the machine's affair; the exit code must say the same as the figures.
    assert result.exit_code == (0 if figures["valid"] else 1)
    for words in ("latency, from when it was due", "lag of the generator", "200: 100", "p99.9"):
        assert words in result.output


def test_a_closed_loop_has_no_schedule(toy_port: int, tmp_path: Path) -> None:
    out = tmp_path / "load.json"
    body = tmp_path / "body.bin"
    body.write_bytes(b"\xff\x00raw")
    result = run(
        *(url(toy_port, "/delay/5"), "--body", body, "--concurrency", 2, "--duration", 0.3),
        *("--json", out),
    )
    figures = json.loads(out.read_text())
    assert figures["rate_per_s"] is None
    assert figures["connections"] == 2
    assert "wanted" not in result.output


def test_failed_requests_are_exit_code_1_unless_allowed(toy_port: int) -> None:
    arguments = (url(toy_port, "/status/429"), "--get", "--rate", 100, "--duration", 0.2)
    result = run(*arguments)
    assert result.exit_code == 1
    assert (
        "failed: answers: expected at most 0.00% of the requests without a 2xx answer, found "
        "100.00%. See the statuses above." in result.stderr
    )
    assert "failed: answers" not in run(*arguments, "--max-error-rate", 1).stderr


def test_a_late_generator_is_a_problem_of_its_own(make_recording: MakeRecording) -> None:
    figures = describe_load(make_recording(9 * MS, lag_ns=3 * MS))
    assert list_problems(figures, max_error_rate=0.0) == [
        "generator: expected it at most 1000 µs late in 99 % of the requests, found 3,000: the "
        "figures are void. Give it a core of its own with --core, or ask for less."
    ]


def test_percentiles_need_ten_requests_above_them(make_recording: MakeRecording) -> None:
    few = describe_load(make_recording(MS, count=99))["latency_us"]
    assert few == {"p50": 1000.0, "p90": None, "p99": None, "p99.9": None, "max": 1000.0}
    some = describe_load(make_recording([MS] * 989 + [7 * MS] * 11))["latency_us"]
    assert (some["p90"], some["p99"], some["p99.9"]) == (1000.0, 7000.0, None)


def test_failures_are_no_part_of_the_latency(make_recording: MakeRecording) -> None:
    recording = make_recording([MS] * 3 + [900 * MS], status=[200, 200, 200, Failure.TIMEOUT])
    figures = describe_load(recording)
    assert figures["latency_us"]["max"] == 1000.0
    assert figures["failed_share"] == 0.25
    nothing = describe_load(make_recording(MS, count=3, status=500))
    assert nothing["latency_us"]["p50"] is None


def test_batches_ask_every_text_and_fill_up_from_the_first() -> None:
    requests = format_batches(PREDICT, ["a", "b", "c"], batch=2, k=1)
    bodies = [json.loads(request.split(b"\r\n\r\n")[1])["instances"] for request in requests]
    assert bodies == [["a", "b"], ["c", "a"]]
    assert len(format_batches(PREDICT, ["a", "b", "c"], batch=1, k=1)) == 3


def test_texts_come_from_lines_or_from_json_lines(tmp_path: Path) -> None:
    plain = tmp_path / "t.txt"
    plain.write_text("one\n\ntwo é\n", encoding="utf-8")
    assert read_lines(plain) == ["one", "two é"]
    rows = tmp_path / "t.jsonl"
    rows.write_text('{"text": "one", "label": 3}\n')
    assert read_lines(rows) == ["one"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.txt", b"", "expected at least one text, found none"),
        ("t.txt", b"\xff", "expected a text a line in UTF-8, found UnicodeDecodeError"),
        ("t.jsonl", b'{"text": 3}', "found TypeError"),
        ("t.jsonl", b"{}", "found KeyError"),
    ],
)
def test_texts_that_cannot_be_used_are_refused(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(LoadError, match=f"{name}: .*{message}"):
        read_lines(tmp_path / name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["http://127.0.0.1:1/x:predict"], "expected either --rate or --concurrency"),
        (["http://h/x", "--rate", "1", "--get", "--text", "a"], "expected at most one of --text"),
        (["ftp://h/x", "--rate", "1"], "expected http://host:port/path, found 'ftp://h/x'"),
        (["http://127.0.0.1:1/x", "--rate", "1"], "expected a path that ends in :predict or"),
        (
            ["http://127.0.0.1:1/x:predict", "--rate", "1"],
            "127.0.0.1:1: expected a server that takes 64 connections, found .*refused",
        ),
        (["http://127.0.0.1:1/x", "--rate", "1", "--get", "--core", "9999"], "--core: expected on"),
        (["http://h/x:predict", "--rate", "1", "--texts", "/no/file"], "FileNotFoundError"),
    ],
)
def test_bad_input_is_exit_code_2_and_one_line(arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert re.search(message, result.stderr), result.stderr
