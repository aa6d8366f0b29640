"""A cross-check with wrk (github.com/wg/wrk): the same server, path, body and connections.

wrk is written in C by others. Where it and our closed loop agree on rate and median, neither
the clock nor the Python of our generator can be much of what is reported.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from serving_compare.load.errors import GeneratorError
from serving_compare.load.request import JSON_TYPE, Target

ALLOWANCE_S = 30.0
_UNITS_US = {"us": 1.0, "ms": 1e3, "s": 1e6, "m": 60e6}


def find_wrk() -> str | None:
    """Return the path of the program, or None where it is not installed."""
    return shutil.which("wrk")


def run_wrk(
    program: str,
    target: Target,
    body: bytes,
    *,
    connections: int,
    duration_s: float,
    core: int | None,
) -> dict[str, Any]:
    """Return `tool`, `connections`, `requests_per_s`, `p50_us`, `p99_us` and `errors`.

    Args:
        program: Path of wrk.
        target: What is asked.
        body: Of every request.
        connections: How many requests are outstanding.
        duration_s: wrk takes whole seconds: rounded up.
        core: Where it is pinned, or None.

    Raises:
        GeneratorError: It failed, or said something unexpected.
    """
    with tempfile.TemporaryDirectory(prefix="gatetable-wrk-") as folder:
        script = Path(folder) / "post.lua"
        script.write_text(format_script(body), encoding="ascii")
        command = [
            *(program, "--threads", "1", "--connections", str(connections)),
            *("--duration", f"{max(1, round(duration_s + 0.499))}s", "--latency"),
            *("--script", str(script), target.url),
        ]
        with _run_on(core):  # a child begins where its parent is
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            output = process.communicate(timeout=duration_s + ALLOWANCE_S)[0].decode()
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            output = ""
        if process.returncode:
            raise GeneratorError(f"wrk: expected a result, found code {process.returncode}.")
    return {"tool": read_version(program), "connections": connections, **read_output(output)}


@contextlib.contextmanager
def _run_on(core: int | None) -> Iterator[None]:
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def format_script(body: bytes) -> str:
    """Return the Lua that makes wrk send a POST; bytes outside ASCII and quotes are escaped."""
    literal = "".join(
        chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03d}" for byte in body
    )
    return (
        'wrk.method = "POST"\n'
        f'wrk.body = "{literal}"\n'
        f'wrk.headers["Content-Type"] = "{JSON_TYPE}"\n'
    )


def read_output(output: str) -> dict[str, Any]:
    """Return the figures of what `wrk --latency` prints.

    Raises:
        GeneratorError: They are not there.
    """
    rate = re.search(r"^Requests/sec:\s+([\d.]+)", output, re.MULTILINE)
    shares = dict(re.findall(r"^\s+(50|99)%\s+([\d.]+(?:us|ms|s|m))$", output, re.MULTILINE))
    if rate is None or shares.keys() != {"50", "99"}:
        raise GeneratorError(
            f"wrk: expected lines with Requests/sec, 50% and 99%, found {output[-300:]!r}."
        )
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    return {
        "requests_per_s": float(rate[1]),
        "p50_us": _read_duration_us(shares["50"]),
        "p99_us": _read_duration_us(shares["99"]),
        "errors": int(failed[1]) if failed else 0,
    }


def read_version(program: str) -> str:
    """Return a name such as "wrk 4.1.0"; "wrk" where it does not say."""
    done = subprocess.run([program, "-v"], capture_output=True, text=True, timeout=10, check=False)
    found = re.search(r"\d+\.\d+(\.\d+)?", done.stdout + done.stderr)
    return f"wrk {found[0]}" if found else "wrk"


def _read_duration_us(text: str) -> float:
    unit = text.lstrip("0123456789.")
    return float(text[: -len(unit)]) * _UNITS_US[unit]
