"""Who trains together: the cluster that `TF_CONFIG` describes. Imports no TensorFlow.

`TF_CONFIG` is the variable that TensorFlow itself reads, and that schedulers such as Kubeflow set:

    {"cluster": {"worker": ["10.0.0.1:6000", "10.0.0.2:6000"]}, "task": {"type": "worker", "index": 0}}
"""  # noqa: E501  (one value of one line)

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

VARIABLE = "TF_CONFIG"
StrategyKind = Literal["auto", "none", "mirrored", "multi_worker"]
"""`mirrored` uses all GPUs of this machine, `multi_worker` the processes of `TF_CONFIG`; `auto`
takes what is there."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """The processes of one training.

    Attributes:
        addresses: `host:port` of each, the chief's first.
        index: Which of them this process is.
    """

    addresses: tuple[str, ...]
    index: int

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the run."""
        return self.index == 0

    @property
    def name(self) -> str:
        """What a person calls this process."""
        return f"worker {self.index + 1} of {len(self.addresses)} ({self.addresses[self.index]})"


def format_cluster(addresses: Sequence[str], index: int) -> str:
    """Return the `TF_CONFIG` of one worker; `read_cluster` is its inverse."""
    task = {"type": "worker", "index": index}
    return json.dumps({"cluster": {"worker": list(addresses)}, "task": task})


def read_cluster(environment: Mapping[str, str] = os.environ) -> Cluster | None:
    """Return the cluster this process belongs to, None if `TF_CONFIG` is not set or names one.

    Raises:
        ValueError: `TF_CONFIG` is of another form.
    """
    text = environment.get(VARIABLE, "").strip()
    if not text:
        return None
    try:
        fields = json.loads(text)
        jobs = fields.get("cluster", {})
        if not jobs:
            return None
        if not set(jobs) <= {"chief", "worker"}:
            raise ValueError(f"jobs {', '.join(sorted(jobs))}")
        chiefs, workers = jobs.get("chief", []), jobs.get("worker", [])
        kind, index = fields["task"]["type"], int(fields["task"]["index"])
        if kind not in jobs or not 0 <= index < len(jobs[kind]) or len(chiefs) > 1:
            raise ValueError(f"task {kind} {index}")
        addresses = tuple(str(address) for address in (*chiefs, *workers))
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise ValueError(
            f"{VARIABLE}: expected "
            '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}, '
            f"found {text[:120]} ({err}). Unset it to train with this process alone."
        ) from err
    if len(addresses) == 1:
        return None
    return Cluster(addresses=addresses, index=index + (len(chiefs) if kind == "worker" else 0))
