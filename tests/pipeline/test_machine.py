"""What a report says of the machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.machine import describe_machine


def test_the_processor_the_cores_of_this_process_and_the_system_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nmodel name\t: Some CPU: 3 GHz\nmodel name\t: Other\n")
    monkeypatch.setattr("pipeline.machine.CPU_INFO", info)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 3, 4}, raising=False)
    monkeypatch.setattr("platform.system", lambda: "Linux")
    assert describe_machine() == {"cpu": "Some CPU: 3 GHz", "cores": 3, "system": "Linux"}


def test_a_processor_that_nothing_names_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.machine.CPU_INFO", tmp_path / "none")
    monkeypatch.setattr("platform.processor", lambda: "")
    assert describe_machine()["cpu"] == "unknown processor"
