from __future__ import annotations

import json

import pytest

from serving_compare.load.errors import GeneratorError
from serving_compare.load.generator import Limits
from serving_compare.load.request import Target, format_request
from serving_compare.load.run import LoadJob, run_load
from serving_compare.load.wrk import find_wrk, format_script, read_output, run_wrk

OUTPUT = """\
Running 2s test @ http://127.0.0.1:8000/v1/models/m:predict
  1 threads and 1 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   305.31us  120.17us   4.02ms   96.41%
    Req/Sec     3.30k   135.60     3.50k    76.19%
  Latency Distribution
     50%  287.00us
     75%  305.00us
     90%  338.00us
     99%    1.25ms
  6904 requests in 2.10s, 1.91MB read
  Non-2xx or 3xx responses: 12
Requests/sec:   3287.42
Transfer/sec:      0.91MB
"""


def test_the_figures_are_read_in_microseconds() -> None:
    assert read_output(OUTPUT) == {
        "requests_per_s": 3287.42,
        "p50_us": 287.0,
        "p99_us": 1250.0,
        "errors": 12,
    }
    slow = OUTPUT.replace("1.25ms", "2.50s").replace("  Non-2xx or 3xx responses: 12\n", "")
    assert read_output(slow)["p99_us"] == 2_500_000
    assert read_output(slow)["errors"] == 0


@pytest.mark.parametrize("output", ["", "unable to connect to 127.0.0.1:8000 Connection refused\n"])
def test_an_output_without_figures_is_an_error(output: str) -> None:
    with pytest.raises(GeneratorError, match="wrk: expected lines with Requests/sec, 50% and 99%"):
        read_output(output)


def test_the_script_escapes_what_lua_would_read() -> None:
    script = format_script('{"a": "\\é\n"}'.encode())
    assert script.splitlines()[1] == (r'wrk.body = "{\034a\034: \034\092\195\169\010\034}"')


@pytest.mark.skipif(find_wrk() is None, reason="wrk is not installed")
def test_wrk_asks_what_we_ask(toy_port: int) -> None:
    program = find_wrk()
    assert program is not None
    body = json.dumps({"instances": "é"}, ensure_ascii=False).encode()
    target = Target(host="127.0.0.1", port=toy_port, path="/delay/20")
    theirs = run_wrk(program, target, body, connections=1, duration_s=1.0, core=None)
    ours = run_load(
        LoadJob(
            target=target,
            requests=[format_request(target, body)],
            duration_s=0.5,
            limits=Limits(connections=1),
        ),
        core=None,
    )
    assert theirs["tool"].startswith("wrk")
    assert theirs["errors"] == 0
    # Both wait for the same 20 ms; nothing is said of how fast they are beyond it.
    assert theirs["p50_us"] >= 20_000
    assert ours.latency_ns.min() >= 20_000_000
