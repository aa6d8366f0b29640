"""What a run cost: seconds by stage, peak memory, energy where the machine tells it.

Kept across the processes of a training that was killed and went on. Only what was saved counts:
work that a kill threw away is in no figure.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

POWERCAP = Path("/sys/class/powercap")
"""Linux: counters of the processor packages (RAPL), of Intel and of AMD; often root's only."""


class EnergyMeter:
    """Joules of all processor packages since it was made, or None where they cannot be read.

    The whole machine's: what else runs is in them. A counter that wraps is followed for one round.

    Args:
        powercap: Where the counters lie; another folder only in tests.
    """

    def __init__(self, powercap: Path = POWERCAP) -> None:
        # intel-rapl:0 is a package; intel-rapl:0:1 is a part of it that would count twice.
        self._packages = sorted(powercap.glob("*-rapl:[0-9]*"))
        self._packages = [path for path in self._packages if path.name.count(":") == 1]
        self._began = [_read_microjoules(path / "energy_uj") for path in self._packages]

    def read_joules(self) -> float | None:
        """Return the joules so far."""
        if not self._packages:
            return None
        total = 0
        for path, began in zip(self._packages, self._began, strict=True):
            now = _read_microjoules(path / "energy_uj")
            if began is None or now is None:
                return None
            wrap = _read_microjoules(path / "max_energy_range_uj") or 0
            total += now - began if now >= began else now - began + wrap
        return total / 1e6


def _read_microjoules(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def read_peak_bytes(status: Path = Path("/proc/self/status")) -> int:
    """Return the largest resident set this process has had.

    Not `getrusage` on Linux: its maximum is inherited from the process that called exec.
    """
    try:
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class Account:
    """What this process and those before it have spent.

    Attributes:
        seconds: Wall time by stage.

    Args:
        earlier: `to_json()` of the process that was killed, or nothing.
        clock: Monotonic, seconds.
        powercap: See `EnergyMeter`.
    """

    def __init__(
        self,
        earlier: Mapping[str, Any] | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        powercap: Path = POWERCAP,
    ) -> None:
        self._clock = clock
        self._lap_began = clock()
        self._meter = EnergyMeter(powercap)
        self._earlier_joules: float | None = 0.0
        self._earlier_peak_bytes = 0
        self.seconds: dict[str, float] = {}
        if earlier is not None:
            self.take_over(earlier)

    def take_over(self, earlier: Mapping[str, Any]) -> None:
        """Add what an earlier process saved."""
        for stage, seconds in earlier["seconds"].items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
        self._earlier_peak_bytes = max(self._earlier_peak_bytes, earlier["peak_bytes"])
        self._earlier_joules = earlier["energy_joules"]

    def end_lap(self, stage: str) -> None:
        """Give the time since the last lap's end to `stage`."""
        now = self._clock()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._lap_began
        self._lap_began = now

    def to_json(self) -> dict[str, Any]:
        """Return `seconds` by stage, `peak_bytes` and `energy_joules`, the last perhaps None."""
        joules = self._meter.read_joules()
        earlier = self._earlier_joules
        return {
            "seconds": dict(self.seconds),
            "peak_bytes": max(self._earlier_peak_bytes, read_peak_bytes()),
            "energy_joules": None if joules is None or earlier is None else joules + earlier,
        }
