"""Several processes that prepare one folder."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from pipeline.distributed import preparation
from pipeline.distributed.cluster import Cluster
from pipeline.distributed.preparation import prepare_together
from pipeline.folder_swap import FolderBusyError

CLUSTER = Cluster(addresses=("a:1", "b:1"), index=1)


class BusyFolder:
    """Stands for `prepare_data`: takes an option, and is busy so many times."""

    def __init__(self, times: int) -> None:
        self.times = times

    def __call__(self, options: dict[str, Any], console: Console) -> Any:
        assert options.pop("source") == "news.csv"  # still there at every try
        self.times -= 1
        if self.times >= 0:
            raise FolderBusyError("busy")
        return "prepared"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation, "_LOOK_EVERY_S", 0.001)


def test_a_worker_waits_for_the_one_that_prepares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation, "prepare_data", BusyFolder(3))
    options = {"source": "news.csv", "units": 7}
    assert prepare_together(options, Console(quiet=True), CLUSTER) == "prepared"
    assert options == {"units": 7}  # taken out, as `prepare_data` does


def test_a_worker_gives_up_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation, "prepare_data", BusyFolder(10**9))
    with pytest.raises(FolderBusyError):
        prepare_together({"source": "news.csv"}, Console(quiet=True), CLUSTER, patience_s=0.05)


def test_a_process_alone_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation, "prepare_data", BusyFolder(1))
    with pytest.raises(FolderBusyError):
        prepare_together({"source": "news.csv"}, Console(quiet=True), None)
