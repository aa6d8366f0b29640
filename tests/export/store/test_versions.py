from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from export.bundle import read_artifact, write_latest
from export.store.errors import DamageError, StoreError
from export.store.versions import (
    is_chosen,
    list_names,
    list_versions,
    promote,
    prune,
    read_history,
    read_latest,
    rollback,
    stack_versions,
)
from export.store.versions_command import promote_command, prune_command
from tests.export.store.conftest import MakeArtifact


@pytest.fixture
def folder(make_artifact: MakeArtifact) -> Path:
    """An artifact's folder with versions 1 to 4, exported one after another."""
    made = [make_artifact(run=f"run {at}") for at in range(1, 5)]
    return made[0].parent


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.isdigit())


def test_versions_are_listed_oldest_first_with_the_one_in_use(folder: Path) -> None:
    (folder / "2.sig").write_bytes(b"x" * 64)
    (folder / "3" / "manifest.json").write_text("{")
    rows = list_versions(folder)
    assert [row.number for row in rows] == [1, 2, 3, 4]
    assert [row.is_latest for row in rows] == [False, False, False, True]
    assert [row.is_signed for row in rows] == [False, True, False, False]
    assert [row.defect for row in rows] == [None, None, "manifest.json: JSONDecodeError", None]
    files = read_artifact(folder / "1").manifest["files"].values()
    assert rows[0].size == sum(record["bytes"] for record in files)
    assert list_names(folder.parent) == ["tiny"]


def test_a_promotion_moves_latest_and_is_written_down(folder: Path) -> None:
    assert not is_chosen(folder)
    assert promote(folder, 2) is True
    assert is_chosen(folder)
    assert (folder / "latest").read_text() == "2\n"
    assert promote(folder, 2) is False
    events = read_history(folder)
    assert [(event["version"], event["why"]) for event in events] == [
        *((at, "export") for at in (1, 2, 3, 4)),
        (2, "promote"),
    ]


def test_a_rollback_goes_to_the_version_before_and_the_next_one_further(folder: Path) -> None:
    promote(folder, 1)
    promote(folder, 3)
    assert rollback(folder) == (3, 1)
    assert rollback(folder) == (1, 4)
    assert rollback(folder) == (4, 3)


def test_without_a_history_a_rollback_goes_to_what_was_exported_before(folder: Path) -> None:
    assert not (folder / "history.jsonl").exists()
    assert rollback(folder) == (4, 3)
    assert rollback(folder) == (3, 2)


def test_an_export_behind_a_rollback_is_seen(folder: Path, make_artifact: MakeArtifact) -> None:
    rollback(folder)
    make_artifact(run="five")
    assert read_latest(folder) == 5
    assert rollback(folder) == (5, 3)


def test_versions_that_are_gone_are_passed_over(folder: Path) -> None:
    promote(folder, 2)
    promote(folder, 1)
    (folder / "2").rename(folder / "gone")
    assert rollback(folder) == (1, 4)


def test_there_may_be_nothing_to_go_back_to(make_artifact: MakeArtifact) -> None:
    folder = make_artifact().parent
    with pytest.raises(StoreError, match="expected a version to go back to from 1, found none."):
        rollback(folder)


@pytest.mark.parametrize("move", ["promote", "rollback"])
def test_a_damaged_version_is_not_put_to_use(folder: Path, move: str) -> None:
    (folder / "3" / "model.onnx").write_text("graph of rux 3")
    with pytest.raises(DamageError, match="model.onnx: expected .* `latest` was left as it is."):
        promote(folder, 3) if move == "promote" else rollback(folder)
    assert read_latest(folder) == 4


def test_a_version_that_does_not_exist_is_refused(folder: Path) -> None:
    with pytest.raises(StoreError, match="expected version 9, found 1, 2, 3, 4 only."):
        promote(folder, 9)
    with pytest.raises(StoreError, match="expected an artifact's folder with a version in it"):
        promote(folder / "none", 1)


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_pruning_keeps_the_newest_the_one_in_use_and_the_one_before(
    folder: Path, make_artifact: MakeArtifact, keep: int
) -> None:
    make_artifact(run="five")
    promote(folder, 2)
    promote(folder, 1)
    (folder / "3.sig").write_bytes(b"x" * 64)
    kept = {1: ["1", "2", "5"], 2: ["1", "2", "4", "5"], 3: ["1", "2", "3", "4", "5"]}[keep]
    gone = [at for at in range(1, 6) if str(at) not in kept]
    assert prune(folder, keep, dry_run=True) == gone
    assert names(folder) == ["1", "2", "3", "4", "5"]
    assert prune(folder, keep) == gone
    assert names(folder) == kept
    assert (folder / "3.sig").exists() == ("3" in kept)
    assert rollback(folder) == (1, 2)


def test_pruning_ends_what_an_interrupted_one_began_and_nothing_else(folder: Path) -> None:
    (folder / ".deleted-9-77").mkdir()
    (folder / ".deleted-notes").mkdir()
    prune(folder, 4)
    assert not (folder / ".deleted-9-77").exists()
    assert (folder / ".deleted-notes").exists()


def test_pruning_refuses_without_a_pointer(folder: Path) -> None:
    (folder / "latest").write_text("7\n")
    with pytest.raises(
        StoreError, match="latest: expected one of the versions 1, 2, 3, 4, found 7"
    ):
        prune(folder, 1)
    (folder / "latest").write_text("../1\n")
    with pytest.raises(StoreError, match="latest: expected the number of a version, found '../1'"):
        prune(folder, 1)
    (folder / "latest").unlink()
    with pytest.raises(StoreError, match="found None. Say which with"):
        prune(folder, 1)
    with pytest.raises(ValueError, match="keep: expected 1 or more, found 0."):
        prune(folder, 0)
    assert names(folder) == ["1", "2", "3", "4"]


def test_a_torn_history_costs_its_line_only(folder: Path) -> None:
    promote(folder, 2)
    with (folder / "history.jsonl").open("a") as file:
        file.write('[1]\n{"version": "x", "why": "promote"}\n{"version": 3, "wh')
    assert rollback(folder) == (2, 4)


def test_a_move_by_hand_is_taken_for_a_rollback(folder: Path) -> None:
    promote(folder, 2)
    promote(folder, 4)
    (folder / "latest").write_text("2\n")
    assert rollback(folder) == (2, 4)
    write_latest(folder)


def test_a_stack_takes_back_the_last_move() -> None:
    def event(version: int, why: str) -> dict[str, Any]:
        return {"version": version, "why": why}

    moves = [event(1, "export"), event(2, "export"), event(1, "promote")]
    assert stack_versions(moves) == [1, 2, 1]
    assert stack_versions([*moves, event(2, "rollback")]) == [1, 2]
    assert stack_versions([*moves, event(2, "rollback"), event(1, "rollback")]) == [1]


def test_the_commands_move_and_delete_what_they_say(folder: Path) -> None:
    runner = CliRunner()
    done = runner.invoke(promote_command, [str(folder / "2")])
    assert (done.exit_code, done.output) == (0, f"{folder}/latest names 2.\n")
    done = runner.invoke(prune_command, [str(folder), "--keep", "1"])
    assert done.output == f"{folder}: deleted 1, 3; there remain 2, 4.\n"
    done = runner.invoke(promote_command, [str(folder)])
    assert done.exit_code == 2
    assert "expected an artifact's folder and the number of a version" in done.output
