"""The command that serves, and the options that use it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import psutil
import pytest
from click.testing import CliRunner

from pipeline.__main__ import cli
from pipeline.service.command import take_service
from pipeline.service.config import ServiceConfig


def test_help_shows_an_example() -> None:
    result = CliRunner().invoke(cli, ["data-service", "--help"])
    assert result.exit_code == 0
    assert "Example: python -m pipeline data-service --workers 4" in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data-service", "--workers", "0"], "error: workers: expected 1 to 256, found 0."),
        (["data-service", "--dispatcher", "10.0.0.1:5050"], "error: data service: expected an add"),
        (["train", "--data-service", "localhost:5050"], "error: data service: expected an address"),
        (["tune", "--data-service", "localhost:5050"], "error: data service: expected an address"),
        (
            ["train", "--data-service", "grpc://localhost:5050", "--data-service-timeout", "0"],
            "error: timeout_s: expected a number of seconds from 1 to 3600, found 0",
        ),
        (
            ["train", "--data-service", "grpc://localhost:5050", "--data-service-sharding", "data"],
            "'data' is not one of 'dynamic', 'file'",
        ),
    ],
)
def test_bad_options_are_refused_before_any_work(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 2
    assert message in result.output


def test_options_become_a_config_and_leave_the_others_alone() -> None:
    options: dict[str, Any] = {
        "data_service": "grpc://10.0.0.1:5050",
        "data_service_sharding": "file",
        "data_service_timeout": 60.0,
        "units": 8,
    }
    assert take_service(options) == ServiceConfig(
        address="grpc://10.0.0.1:5050", sharding="file", timeout_s=60.0
    )
    assert options == {"units": 8}


def test_without_an_address_there_is_no_service() -> None:
    options = {"data_service": None, "data_service_sharding": "file", "data_service_timeout": 1.0}
    assert take_service(options) is None


@pytest.mark.slow
def test_sigterm_ends_the_service_and_its_workers_however_far_they_are(
    start_data_service: Callable[..., AbstractContextManager[Any]],
) -> None:
    with start_data_service("--workers", "2") as service:
        service.wait_for("dispatcher (")
        deadline = time.monotonic() + 20
        while not (workers := psutil.Process(service.process.pid).children()):
            assert time.monotonic() < deadline
        service.process.terminate()
        service.wait_for("Ended; its workers too.")
        assert service.process.wait(20) == 0
    _, left = psutil.wait_procs(workers, timeout=20)
    assert left == []
