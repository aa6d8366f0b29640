"""A real server under test: `python -m serving_compare serve`, ended for sure."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from serving_compare.load.errors import ServerError
from serving_compare.load.request import Target, read_url
from serving_compare.machine import child_environment

READY_TIMEOUT_S = 180.0
"""TensorFlow takes about ten seconds to start on an idle core, several times that on a busy one."""
STOP_TIMEOUT_S = 30.0
POLL_S = 0.02
TAIL_LINES = 15


@dataclass(frozen=True, kw_only=True)
class Served:
    """One backend of a running server.

    Attributes:
        backend: Its name.
        target: Where its predictions are asked for.
        workers: Process ids.
    """

    backend: str
    target: Target
    workers: tuple[int, ...]


class ServerProcess:
    """A server and its workers. A context manager: leaving the block ends all of them.

    Args:
        artifact: A version folder, or an artifact's folder whose `latest` is followed.
        model: Name of the model in the paths.
        backends: One port each.
        core: Where the workers are pinned, or None.
        workers: Processes of each backend.
        options: Further options of `serve`.

    Raises:
        ServerError: On entering: it does not get ready.
    """

    def __init__(
        self,
        artifact: Path,
        model: str,
        backends: Sequence[str],
        *,
        core: int | None,
        workers: int = 1,
        options: Sequence[str] = (),
    ) -> None:
        self._model = model
        self._backends = ",".join(backends)
        self._folder = tempfile.TemporaryDirectory(prefix="gatetable-serve-")
        folder = Path(self._folder.name)
        self._ready_file = folder / "ready.json"
        self._stderr = folder / "stderr"
        with self._stderr.open("wb") as stderr:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "serving_compare.load.bound_server"),
                    str(os.getpid()),
                    *("--artifact", str(artifact.resolve()), "--backends", self._backends),
                    *("--port", "0", "--workers", str(workers), "--no-page"),
                    *(() if core is None else ("--cores", str(core))),
                    *("--ready-file", str(self._ready_file)),
                    *options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                env=child_environment(os.environ),
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        try:
            deadline = time.monotonic() + READY_TIMEOUT_S
            while not self._ready_file.is_file():
                self.check_alive()
                if time.monotonic() > deadline:
                    raise ServerError(
                        f"serve --backends {self._backends}: expected it ready within "
                        f"{READY_TIMEOUT_S:.0f} s, found it still starting. The last lines it "
                        f"wrote:\n{self.tail()}"
                    )
                time.sleep(POLL_S)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Process id of the supervisor."""
        return self._process.pid

    def read_served(self) -> list[Served]:
        """Return its backends as the ready file names them now."""
        ready: dict[str, Any] = json.loads(self._ready_file.read_text(encoding="utf-8"))
        return [
            Served(
                backend=server["backend"],
                target=read_url(f"{server['url']}/v1/models/{self._model}:predict"),
                workers=tuple(server["workers"]),
            )
            for server in ready["servers"]
        ]

    def check_alive(self) -> None:
        """Raise where the supervisor has ended.

        Raises:
            ServerError: With the last lines it wrote.
        """
        code = self._process.poll()
        if code is not None:
            raise ServerError(
                f"serve --backends {self._backends}: expected a running server, found it ended "
                f"with code {code}. The last lines it wrote:\n{self.tail()}"
            )

    def terminate(self) -> None:
        """Ask it politely to end: SIGTERM to the supervisor."""
        self._process.send_signal(signal.SIGTERM)

    def wait(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Return its exit code once it has ended.

        Raises:
            ServerError: It does not end in time.
        """
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired as err:
            raise ServerError(
                f"serve --backends {self._backends}: expected it to end within {timeout_s:.0f} s "
                f"of SIGTERM, found it still running. The last lines it wrote:\n{self.tail()}"
            ) from err

    def tail(self) -> str:
        """Return the last lines it wrote."""
        lines = self._stderr.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"    {line}" for line in lines[-TAIL_LINES:]) or "    (nothing)"

    def close(self) -> None:
        """End all its processes, politely first; do nothing where they have ended."""
        if self._process.poll() is None:
            self.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        self._folder.cleanup()


def read_rss_bytes(pid: int) -> int | None:
    """Return the resident set of a process, or None where it has gone or the system does not say.

    Linux: VmRSS, which counts pages of mapped files too.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return None
