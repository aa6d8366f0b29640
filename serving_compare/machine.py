"""Facts about the machine that a timing depends on; nothing that names a person or a place.

Read from /proc and /sys where they exist; a fact the system does not tell is None, never guessed.
Two sets of results may be merged only if `likeness` of both is the same.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FLAGS_OF_INTEREST = (
    *("sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni"),
    *("avx512f", "avx512bw", "avx512_vnni", "avx512_bf16"),
    *("amx_tile", "amx_int8", "amx_bf16"),
    *("asimd", "asimddp", "sve", "i8mm", "bf16"),
)
LIBRARIES = (
    "gatetable",
    "numpy",
    "sentencepiece",
    "onnxruntime",
    "tensorflow",
    "tensorflow-text",
    "openvino",
    "ai-edge-litert",
    "torch",
)
PASSING_FACTS = frozenset({"load_average", "affinity"})
"""Facts that differ between two runs on one machine."""
THREAD_VARIABLES = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


def read_machine(root: Path = Path("/")) -> dict[str, Any]:
    """Return the facts as JSON values.

    Args:
        root: Where `proc` and `sys` lie; another folder only in tests.
    """
    cpu = _read_cpuinfo(root)
    flags = set(cpu.get("flags", cpu.get("Features", "")).split())
    return {
        "cpu": cpu.get("model name") or platform.processor() or platform.machine(),
        "cpu_stepping": "/".join(
            cpu.get(key, "?") for key in ("vendor_id", "cpu family", "model", "stepping")
        ),
        "architecture": platform.machine(),
        "flags": [flag for flag in FLAGS_OF_INTEREST if flag in flags],
        "hypervisor": "hypervisor" in flags,
        "cores": os.cpu_count(),
        "affinity": allowed_cores(),
        "governor": _read_line(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "boost": _read_line(root / "sys/devices/system/cpu/cpufreq/boost"),
        "smt": _read_line(root / "sys/devices/system/cpu/smt/control"),
        "caches": _read_caches(root),
        "memory_kib": _read_memory_kib(root),
        "cgroup_quota_cores": _read_quota_cores(root),
        "load_average": _load_average(),
        "system": platform.system(),
        "kernel": platform.release(),
    }


def read_versions(libraries: Sequence[str] = LIBRARIES) -> dict[str, str]:
    """Return Python's and the libraries' versions; a library that is absent is left out.

    Nothing is imported: the versions come from the installed packages' metadata.
    """
    versions = {"python": platform.python_version()}
    for library in libraries:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def likeness(machine: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts that must be equal for two sets of timings to be one."""
    return {name: fact for name, fact in machine.items() if name not in PASSING_FACTS}


def allowed_cores() -> list[int] | None:
    """Return the cores this process may run on, or None where the system does not say."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    return sorted(os.sched_getaffinity(0))


@contextmanager
def reserve_core() -> Iterator[int | None]:
    """Keep this process off one core for as long as the block runs; gives that core's number.

    The last allowed core is taken, as the first one usually serves the interrupts. With a single
    core there is nothing to keep off; without affinity calls the answer is None.
    """
    cores = allowed_cores()
    if cores is None:
        yield None
        return
    if len(cores) > 1:
        os.sched_setaffinity(0, cores[:-1])
    try:
        yield cores[-1]
    finally:
        os.sched_setaffinity(0, cores)


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return a child's environment: one thread for every BLAS, no GPU, quiet libraries.

    A BLAS keeps its one thread where a backend is given several: what it is called for is too small
    to be shared, and a backend that has threads of its own would run threads times threads.
    """
    child = dict(environment)
    child.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    child["CUDA_VISIBLE_DEVICES"] = "-1"
    child["TF_CPP_MIN_LOG_LEVEL"] = "3"
    root = str(Path(__file__).resolve().parent.parent)
    paths = [root, *filter(None, [environment.get("PYTHONPATH")])]
    child["PYTHONPATH"] = os.pathsep.join(paths)
    return child


def _read_line(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None


def _read_cpuinfo(root: Path) -> dict[str, str]:
    """The first processor's block of /proc/cpuinfo."""
    facts: dict[str, str] = {}
    for line in (_read_line(root / "proc/cpuinfo") or "").splitlines():
        if not line.strip():
            break
        key, _, value = line.partition(":")
        facts[key.strip()] = value.strip()
    return facts


def _read_caches(root: Path) -> dict[str, str]:
    """Size of each cache as core 0 sees it: {"L1 Data": "48K", ...}."""
    caches: dict[str, str] = {}
    for index in sorted((root / "sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = (_read_line(index / name) for name in ("level", "type", "size"))
        if level and kind and size:
            caches[f"L{level} {kind}"] = size
    return caches


def _read_memory_kib(root: Path) -> int | None:
    for line in (_read_line(root / "proc/meminfo") or "").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1])
    return None


def _read_quota_cores(root: Path) -> float | None:
    """CPU time the cgroup may use, in cores; None means no limit or no cgroup."""
    limits = _read_line(root / "sys/fs/cgroup/cpu.max")
    if limits is not None:
        quota, _, period = limits.partition(" ")
    else:
        quota = _read_line(root / "sys/fs/cgroup/cpu/cpu.cfs_quota_us") or "max"
        period = _read_line(root / "sys/fs/cgroup/cpu/cpu.cfs_period_us") or "100000"
    try:
        return None if float(quota) <= 0 else float(quota) / float(period)
    except (ValueError, ZeroDivisionError):  # "max"
        return None


def _load_average() -> list[float] | None:
    if not hasattr(os, "getloadavg"):
        return None
    return [round(value, 2) for value in os.getloadavg()]
