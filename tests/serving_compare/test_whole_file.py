"""Files that appear whole: what a failed writer leaves, and two at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from serving_compare.whole_file import open_whole, write_whole


def test_text_is_written_as_utf8_in_the_place_of_an_older_file(tmp_path: Path) -> None:
    path = tmp_path / "report"
    path.write_text("old")
    write_whole(path, "é\r\n😀\n")
    assert path.read_bytes() == "é\r\n😀\n".encode()
    assert [entry.name for entry in tmp_path.iterdir()] == ["report"]


def test_a_block_that_raises_leaves_the_older_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "report"
    write_whole(path, "old")

    def fail() -> None:
        with open_whole(path) as file:
            file.write(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["report"]


def test_of_two_processes_that_write_one_file_the_later_wins_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report"
    with open_whole(path) as file:
        file.write(b"a long one of the ")
        monkeypatch.setattr(os, "getpid", lambda: 1)
        write_whole(path, "short one")
        monkeypatch.undo()
        assert path.read_text() == "short one"
        file.write(b"slow process")
    assert path.read_text() == "a long one of the slow process"
    assert [entry.name for entry in tmp_path.iterdir()] == ["report"]


def test_the_bytes_are_synced_before_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report"
    synced: list[tuple[int, bool]] = []
    monkeypatch.setattr(
        "serving_compare.whole_file.os.fsync",
        lambda descriptor: synced.append((os.fstat(descriptor).st_size, path.exists())),
    )
    write_whole(path, "whole")
    assert synced == [(5, False)]
