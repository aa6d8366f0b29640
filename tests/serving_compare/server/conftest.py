"""One real server for all tests that leave it as they found it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.serving_compare.server.running import Running, run_server


@pytest.fixture(scope="session")
def golden_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The golden artifact in three backends; nothing that was sent may have left a traceback."""
    folder = tmp_path_factory.mktemp("golden_server")
    with run_server(folder, backends="lookup,onnx,null") as running:
        yield running
        log = running.log.read_text()
    assert "Traceback" not in log, log[-3000:]
