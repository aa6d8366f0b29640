from __future__ import annotations

import os
from pathlib import Path

import pytest

from export.bundle import Artifact
from serving_compare.load.errors import ServerError
from serving_compare.load.servers import ServerProcess, read_rss_bytes


def test_a_server_is_started_described_and_ended(artifact: Artifact) -> None:
    with ServerProcess(artifact.folder, artifact.name, ["null", "lookup"], core=None) as server:
        null, lookup = server.read_served()
        assert (null.backend, lookup.backend) == ("null", "lookup")
        assert null.target.path == f"/v1/models/{artifact.name}:predict"
        assert null.target.port != lookup.target.port
        (worker,) = lookup.workers
        memory = read_rss_bytes(worker)
        assert memory is not None
        assert 10_000_000 < memory < 2_000_000_000
        server.terminate()
        assert server.wait() == 0
        with pytest.raises(ServerError, match="expected a running server, found it ended with"):
            server.check_alive()
    for pid in (server.pid, worker):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert read_rss_bytes(worker) is None


def test_a_server_that_does_not_start_is_told_with_its_last_lines(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, "m", ["lookup"], core=None)
    with (
        pytest.raises(
            ServerError, match=r"serve --backends lookup: .* ended with code 2(.|\n)*error: "
        ),
        server,
    ):
        pass
