"""What `TF_CONFIG` says, and what it may not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.distributed.cluster import Cluster, format_cluster, read_cluster

HOSTS = ("10.0.0.1:6000", "10.0.0.2:6000")


def read(cluster: Any, kind: str = "worker", index: Any = 0) -> Cluster | None:
    fields = {"cluster": cluster, "task": {"type": kind, "index": index}}
    return read_cluster({"TF_CONFIG": json.dumps(fields)})


@pytest.mark.parametrize("text", [None, "", " ", "{}", '{"cluster": {}}'])
def test_without_a_cluster_a_process_is_alone(text: str | None) -> None:
    assert read_cluster({} if text is None else {"TF_CONFIG": text}) is None


def test_a_cluster_of_one_is_no_cluster() -> None:
    assert read({"worker": HOSTS[:1]}) is None
    assert read({"chief": HOSTS[:1]}, "chief") is None


def test_what_is_written_for_a_worker_is_read_by_it() -> None:
    for index in range(2):
        cluster = read_cluster({"TF_CONFIG": format_cluster(HOSTS, index)})
        assert cluster == Cluster(addresses=HOSTS, index=index)
        assert cluster.is_chief == (index == 0)
        assert cluster.name == f"worker {index + 1} of 2 ({HOSTS[index]})"


def test_a_chief_of_its_own_comes_before_the_workers() -> None:
    jobs = {"chief": [HOSTS[0]], "worker": [HOSTS[1], "10.0.0.3:6000"]}
    chief, last = read(jobs, "chief"), read(jobs, "worker", 1)
    assert chief is not None and (chief.index, chief.is_chief) == (0, True)
    assert last is not None and (last.index, last.is_chief) == (2, False)
    assert last.addresses == (*HOSTS, "10.0.0.3:6000")


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "7",
        '{"cluster": {"worker": ["a:1", "b:1"]}}',
        '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}}',
        '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": -1}}',
        '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "chief", "index": 0}}',
        '{"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, "task": {"type": "ps", "index": 0}}',
        '{"cluster": {"chief": ["a:1", "b:1"]}, "task": {"type": "chief", "index": 0}}',
        '{"cluster": {"worker": 7}, "task": {"type": "worker", "index": 0}}',
    ],
)
def test_another_form_is_refused_with_what_to_do(text: str) -> None:
    message = (
        r'TF_CONFIG: expected \{"cluster": \{"worker": \["host:port", \.\.\.\]\}, .*found .*'
        r"Unset it to train with this process alone\."
    )
    with pytest.raises(ValueError, match=message):
        read_cluster({"TF_CONFIG": text})
