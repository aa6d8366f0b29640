"""What a run cost: laps by stage, peak memory, energy, kept over a kill."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.accounting import Account, EnergyMeter, read_peak_bytes


class Clock:
    """Seconds as the test sets them."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def write_package(powercap: Path, name: str, microjoules: int, most: int = 10_000_000) -> Path:
    package = powercap / name
    package.mkdir(parents=True, exist_ok=True)
    (package / "energy_uj").write_text(f"{microjoules}\n")
    (package / "max_energy_range_uj").write_text(f"{most}\n")
    return package


def test_laps_add_up_by_stage(tmp_path: Path) -> None:
    clock = Clock()
    account = Account(clock=clock, powercap=tmp_path)
    for stage, until in (("train", 103.0), ("validation", 104.0), ("train", 110.0)):
        clock.now = until
        account.end_lap(stage)
    assert account.seconds == {"train": 9.0, "validation": 1.0}
    assert account.to_json()["energy_joules"] is None


def test_an_earlier_process_is_added(tmp_path: Path) -> None:
    clock = Clock()
    earlier = {"seconds": {"train": 5.0, "start": 1.0}, "peak_bytes": 10**15, "energy_joules": None}
    account = Account(earlier, clock=clock, powercap=tmp_path)
    clock.now = 102.0
    account.end_lap("train")
    assert account.seconds == {"train": 7.0, "start": 1.0}
    assert account.to_json()["peak_bytes"] == 10**15


def test_energy_is_that_of_all_packages_without_their_parts(tmp_path: Path) -> None:
    write_package(tmp_path, "intel-rapl:0", 1_000_000)
    write_package(tmp_path, "intel-rapl:1", 2_000_000)
    write_package(tmp_path, "intel-rapl:0:0", 5)
    meter = EnergyMeter(tmp_path)
    write_package(tmp_path, "intel-rapl:0", 4_000_000)
    write_package(tmp_path, "intel-rapl:1", 2_500_000)
    assert meter.read_joules() == 3.5


def test_a_counter_that_began_anew_is_followed(tmp_path: Path) -> None:
    write_package(tmp_path, "intel-rapl:0", 9_000_000)
    meter = EnergyMeter(tmp_path)
    write_package(tmp_path, "intel-rapl:0", 500_000)
    assert meter.read_joules() == 1.5


def test_energy_that_cannot_be_read_is_none_and_never_zero(tmp_path: Path) -> None:
    assert EnergyMeter(tmp_path).read_joules() is None
    package = write_package(tmp_path, "intel-rapl:0", 1)
    meter = EnergyMeter(tmp_path)
    (package / "energy_uj").unlink()
    assert meter.read_joules() is None


def test_energy_of_a_killed_process_counts_where_both_could_be_read(tmp_path: Path) -> None:
    write_package(tmp_path, "intel-rapl:0", 0)
    earlier = {"seconds": {}, "peak_bytes": 0, "energy_joules": 2.0}
    assert Account(earlier, powercap=tmp_path).to_json()["energy_joules"] == 2.0
    unknown = {**earlier, "energy_joules": None}
    assert Account(unknown, powercap=tmp_path).to_json()["energy_joules"] is None


def test_the_peak_is_read_from_the_status_and_else_asked_of_the_system(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("VmPeak:\t 9 kB\nVmHWM:\t 123 kB\n")
    assert read_peak_bytes(status) == 123 * 1024
    assert read_peak_bytes(tmp_path / "absent") > 10**6


@pytest.mark.parametrize("text", ["", "many\n"])
def test_a_counter_that_is_no_number_is_none(tmp_path: Path, text: str) -> None:
    package = write_package(tmp_path, "intel-rapl:0", 1)
    (package / "energy_uj").write_text(text)
    assert EnergyMeter(tmp_path).read_joules() is None
