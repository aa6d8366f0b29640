from __future__ import annotations

import getpass
import json
import os
import platform
import re
from pathlib import Path

import pytest

from serving_compare.machine import (
    THREAD_VARIABLES,
    allowed_cores,
    child_environment,
    likeness,
    read_machine,
    read_versions,
    reserve_core,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    files = {
        "proc/cpuinfo": "processor\t: 0\nmodel name\t: Fast CPU\nvendor_id\t: Maker\n"
        "cpu family\t: 6\nmodel\t\t: 1\nstepping\t: 2\nflags\t\t: fpu avx2 hypervisor fma\n\n"
        "processor\t: 1\nmodel name\t: Other CPU\n",
        "proc/meminfo": "MemFree: 1 kB\nMemTotal:  2048 kB\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance\n",
        "sys/devices/system/cpu/cpu0/cache/index0/level": "1\n",
        "sys/devices/system/cpu/cpu0/cache/index0/type": "Data\n",
        "sys/devices/system/cpu/cpu0/cache/index0/size": "48K\n",
        "sys/devices/system/cpu/cpu0/cache/index1/level": "2\n",
        "sys/fs/cgroup/cpu.max": "150000 100000\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_facts_are_read_from_the_system_files(root: Path):
    machine = read_machine(root)
    assert machine["cpu"] == "Fast CPU"
    assert machine["cpu_stepping"] == "Maker/6/1/2"
    assert machine["flags"] == ["avx2", "fma"]
    assert machine["hypervisor"] is True
    assert machine["governor"] == "performance"
    assert machine["caches"] == {"L1 Data": "48K"}
    assert machine["memory_kib"] == 2048
    assert machine["cgroup_quota_cores"] == 1.5


def test_facts_the_system_does_not_tell_are_none(tmp_path: Path):
    machine = read_machine(tmp_path)
    assert machine["governor"] is machine["memory_kib"] is machine["cgroup_quota_cores"] is None
    assert machine["caches"] == {}
    assert machine["cpu"]


@pytest.mark.parametrize(("text", "cores"), [("max 100000", None), ("50000 100000", 0.5)])
def test_quota_of_either_cgroup_version_is_read(tmp_path: Path, text: str, cores: float | None):
    new, old = tmp_path / "new", tmp_path / "old"
    (new / "sys/fs/cgroup").mkdir(parents=True)
    (new / "sys/fs/cgroup/cpu.max").write_text(text)
    (old / "sys/fs/cgroup/cpu").mkdir(parents=True)
    quota, period = text.split()
    (old / "sys/fs/cgroup/cpu/cpu.cfs_quota_us").write_text(quota.replace("max", "-1"))
    (old / "sys/fs/cgroup/cpu/cpu.cfs_period_us").write_text(period)
    assert read_machine(new)["cgroup_quota_cores"] == cores
    assert read_machine(old)["cgroup_quota_cores"] == cores


def test_facts_name_no_host_no_user_and_no_path():
    text = json.dumps([read_machine(), read_versions()])
    assert not re.search(r'"/|[A-Za-z]:\\\\', text)
    for private in (platform.node(), getpass.getuser(), str(Path.home())):
        assert f'"{private}"' not in text


def test_load_and_affinity_do_not_make_a_machine_another_one():
    machine = read_machine()
    assert likeness(machine) == likeness({**machine, "load_average": [9.0], "affinity": [0]})
    assert likeness(machine) != likeness({**machine, "cpu": "Other CPU"})


def test_versions_leave_out_what_is_not_installed():
    versions = read_versions(("numpy", "no-such-library"))
    assert list(versions) == ["python", "numpy"]


def test_a_core_is_kept_free_and_given_back():
    before = allowed_cores()
    with reserve_core() as core:
        during = allowed_cores()
        if before is None:
            assert core is None
        elif during is not None and len(before) > 1:
            assert core not in during
    assert allowed_cores() == before


def test_systems_without_affinity_reserve_no_core(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    with reserve_core() as core:
        assert core is None
    assert allowed_cores() is None


def test_children_get_one_thread_and_find_this_package():
    environment = child_environment({"PYTHONPATH": "elsewhere", "OMP_NUM_THREADS": "8"})
    assert {environment[name] for name in THREAD_VARIABLES} == {"1"}
    first, second = environment["PYTHONPATH"].split(os.pathsep)
    assert (Path(first) / "serving_compare" / "worker.py").is_file()
    assert second == "elsewhere"
