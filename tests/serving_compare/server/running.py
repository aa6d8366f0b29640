"""A real server process for a test, on free ports, ended and looked after."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests/golden/v2"
"""An artifact of a few kilobytes with every form: name tiny, version 1, C=2, V=96, 6 tokens."""
PREDICT = "/v1/models/tiny:predict"
INFER = "/v2/models/tiny/infer"


@dataclass(frozen=True)
class Running:
    """A server that runs.

    Attributes:
        process: Its supervisor.
        urls: Backend to URL.
        log: File its stderr goes to.
    """

    process: subprocess.Popen[bytes]
    urls: dict[str, str]
    log: Path

    def post(self, backend: str, path: str, body: Any, *, ensure_ascii: bool = True) -> Any:
        """Return the JSON that a well-formed request is answered with."""
        request = Request(
            self.urls[backend] + path,
            json.dumps(body, ensure_ascii=ensure_ascii).encode(),
            {"Content-Type": "application/json"},
        )
        with urlopen(request, timeout=10) as answer:
            return json.loads(answer.read())


@contextmanager
def run_server(
    folder: Path, *options: str, backends: str = "lookup", artifact: Path = GOLDEN
) -> Iterator[Running]:
    """Yield a server that is ready; end it with SIGTERM and expect exit code 0."""
    folder.mkdir(parents=True, exist_ok=True)
    ready, log = folder / "ready.json", folder / "server.log"
    command = [sys.executable, "-m", "serving_compare", "serve", "--artifact", str(artifact)]
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [*command, "--backends", backends, "--port", "0", "--ready-file", ready, *options],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
    try:
        until = time.monotonic() + 120
        while not ready.exists():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.02)
        servers = json.loads(ready.read_text())["servers"]
        yield Running(process, {server["backend"]: server["url"] for server in servers}, log)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
