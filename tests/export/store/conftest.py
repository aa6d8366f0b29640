"""One real S3 server for a test run, a proxy in front of it, and small artifacts.

Ceph where it is installed (see start_ceph.sh), else moto's server; GATETABLE_TEST_S3=moto asks for
the latter. What moto does not check (secrets, clocks) is skipped there and says so.
"""

from __future__ import annotations

import functools
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.bundle import publish_artifact
from tests.export.store.proxy import Proxy
from tests.export.test_bundle import FIELDS, make_partial

ROOT = Path(__file__).parents[3]
CEPH = ("radosgw", "ceph-mon", "ceph-osd", "ceph", "radosgw-admin")
LARGE_BYTES = 11 * 2**20
"""Of the one file that goes in parts: three of 5 MiB or less."""


@dataclass(frozen=True)
class Server:
    """A running S3 server."""

    endpoint: str
    kind: str

    @functools.cache  # noqa: B019  (one server a run)
    def client(self, access: str = "AKTEST", secret: str = "SKTEST") -> Any:
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=access,
            aws_secret_access_key=secret,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}),
        )


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def find_kind() -> str:
    asked = os.environ.get("GATETABLE_TEST_S3")
    return asked or ("ceph" if all(map(shutil.which, CEPH)) else "moto")


def wait_for(port: int, process: subprocess.Popen[Any], seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert process.poll() is None, "the S3 server ended"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError(f"no S3 server within {seconds} s")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real S3 server (slow tests only); moto's where Ceph is installed but does not start."""
    with ExitStack() as stack:
        kind, folder = find_kind(), tmp_path_factory.mktemp("s3")
        try:
            found = stack.enter_context(run_server(kind, folder))
        except AssertionError as err:
            if kind == "moto":
                raise
            sys.stderr.write(f"Ceph does not start, so moto serves: {err}\n")
            found = stack.enter_context(run_server("moto", folder))
        yield found


@contextmanager
def run_server(kind: str, folder: Path) -> Iterator[Server]:
    """Run an S3 server of a kind until the block is left."""
    port = free_port()
    command = {
        "ceph": ["bash", str(Path(__file__).with_name("start_ceph.sh")), str(folder), str(port)],
        "moto": [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
    }[kind]
    with (folder / "out.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT)
    try:
        wait_for(port, process, 120)
        yield Server(f"http://127.0.0.1:{port}", kind)
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="session")
def bucket(server: Server) -> str:
    """A bucket for the whole run; each test takes a prefix of its own."""
    server.client().create_bucket(Bucket="gatetable-test")
    return "gatetable-test"


@pytest.fixture
def address(bucket: str) -> str:
    """An address that no other test uses."""
    return f"s3://{bucket}/{uuid.uuid4().hex[:12]}/team"


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    """A proxy in front of the server, transparent until told otherwise."""
    with Proxy(int(server.endpoint.rpartition(":")[2])) as running:
        yield running


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only what a test sets: no profile, no variable of the machine, no instance metadata."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "S3_")) or name == "GATETABLE_PUBLIC_KEY":
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKTEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SKTEST")
    monkeypatch.setenv("GATETABLE_BUILD", str(tmp_path / "build"))


MakeArtifact = Callable[..., Path]


@pytest.fixture(scope="session")
def large_content() -> bytes:
    return np.random.default_rng(0).bytes(LARGE_BYTES)


@pytest.fixture
def make_artifact(tmp_path: Path) -> MakeArtifact:
    """Return a function that publishes the next version of a small artifact below a folder."""

    def make(below: str = "here", run: str = "one", large: bytes = b"") -> Path:
        folder = tmp_path / below / "tiny"
        folder.mkdir(parents=True, exist_ok=True)
        partial = make_partial(folder)
        (partial / "lookup" / "gate_table.npy").write_bytes(large or b"rows")
        (partial / "saved_model" / "empty").write_bytes(b"")
        (partial / "model.onnx").write_text(f"graph of {run}")
        return publish_artifact(partial, folder, {**FIELDS, "provenance": {"run": run}})

    return make
