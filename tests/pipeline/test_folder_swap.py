"""Folders that appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.folder_swap import locked_folder, publish_folder
from pipeline.tables.source import DataError


def publish(folder: Path, content: str) -> None:
    with locked_folder(folder), publish_folder(folder) as partial:
        (partial / "data.json").write_text(content)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.parent.iterdir())


def test_folder_appears_whole_and_replaces_an_older_one(tmp_path: Path) -> None:
    publish(tmp_path / "d", "old")
    publish(tmp_path / "d", "new")
    assert (tmp_path / "d" / "data.json").read_text() == "new"
    assert names(tmp_path / "d") == [".d.lock", "d"]


def test_failure_inside_leaves_the_older_one(tmp_path: Path) -> None:
    publish(tmp_path / "d", "old")
    with (
        pytest.raises(ZeroDivisionError),
        locked_folder(tmp_path / "d"),
        publish_folder(tmp_path / "d") as partial,
    ):
        (partial / "data.json").write_text("new")
        _ = 1 / 0
    assert (tmp_path / "d" / "data.json").read_text() == "old"
    assert names(tmp_path / "d") == [".d.lock", "d"]


def test_kill_between_the_two_renames_is_healed(tmp_path: Path) -> None:
    publish(tmp_path / "d", "old")
    (tmp_path / "d").rename(tmp_path / ".d.replaced")
    (tmp_path / ".d.partial").mkdir()
    with locked_folder(tmp_path / "d"):
        assert (tmp_path / "d" / "data.json").read_text() == "old"
    assert names(tmp_path / "d") == [".d.lock", "d"]


def test_kill_after_the_second_rename_is_healed(tmp_path: Path) -> None:
    publish(tmp_path / "d", "new")
    (tmp_path / ".d.replaced").mkdir()
    with locked_folder(tmp_path / "d"):
        assert (tmp_path / "d" / "data.json").read_text() == "new"
    assert names(tmp_path / "d") == [".d.lock", "d"]


def test_full_disk_is_explained(tmp_path: Path) -> None:
    with (
        pytest.raises(DataError, match=r"can be written, found No space left on device\."),
        locked_folder(tmp_path / "d"),
        publish_folder(tmp_path / "d"),
    ):
        raise OSError(28, "No space left on device")
    assert names(tmp_path / "d") == [".d.lock"]


def test_folder_of_another_hand_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "photo.jpg").write_text("mine")
    with (
        pytest.raises(DataError, match=r"found a folder without data\.json\. Move it"),
        locked_folder(tmp_path / "d"),
    ):
        pass
    assert (tmp_path / "d" / "photo.jpg").read_text() == "mine"
