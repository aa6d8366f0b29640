"""Clients that keep a real server busy and account for every request."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from tests.serving_compare.server.running import PREDICT

BODY = json.dumps({"instances": "stone dog river"}).encode()
HEADERS = {"Content-Type": "application/json"}


@dataclass
class Load:
    """Clients on keep-alive connections of their own, one request after the other, until left.

    Attributes:
        outcomes: Requests by status; `lost` where the bytes were sent and no answer came;
            `unconnected` where there was nobody to send them to.
        versions: Answers by version.
    """

    url: str
    clients: int = 4
    pause_s: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)

    def __enter__(self) -> Self:
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(self.clients)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        address = urlsplit(self.url)
        assert address.hostname is not None
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=10)
        while not self._stop.is_set():
            time.sleep(self.pause_s)
            try:
                if connection.sock is None:
                    connection.connect()
            except OSError:
                self.outcomes["unconnected"] += 1
                time.sleep(0.01)
                continue
            try:
                connection.request("POST", PREDICT, BODY, HEADERS)
                with connection.getresponse() as response:
                    content = response.read()
            except (OSError, http.client.HTTPException):
                self.outcomes["lost"] += 1
                connection.close()
                continue
            self.outcomes[str(response.status)] += 1
            if response.status == 200:
                self.versions[json.loads(content)["version"]] += 1
        connection.close()
