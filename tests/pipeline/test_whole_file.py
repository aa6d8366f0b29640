"""Files that appear whole: what a failed or killed writer leaves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.whole_file import open_whole, sync, write_whole


def test_text_is_written_as_utf8_and_bytes_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, "é\r\n😀\n")
    assert path.read_bytes() == "é\r\n😀\n".encode()
    write_whole(path, b"\xff\n")
    assert path.read_bytes() == b"\xff\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_block_that_raises_leaves_the_older_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, "old")

    def fail() -> None:
        with open_whole(path) as file:
            file.write(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_text_that_is_no_utf8_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UnicodeEncodeError):
        write_whole(tmp_path / "file", "\ud800")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_writer_left_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, "old")
    code = (
        "import os, signal, sys; from pathlib import Path; from pipeline.whole_file import "
        "open_whole\n"
        "with open_whole(Path(sys.argv[1])) as file:\n"
        "    file.write(b'half of a long one')\n"
        "    file.flush()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False, timeout=60)
    assert done.returncode == -9
    assert path.read_text() == "old"
    assert (tmp_path / ".file.partial").read_text() == "half of a long one"
    write_whole(path, "new")
    assert path.read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_the_bytes_are_synced_before_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    synced: list[tuple[int, bool]] = []

    def record(descriptor: int) -> None:
        synced.append((os.fstat(descriptor).st_size, path.exists()))

    monkeypatch.setattr("pipeline.whole_file.os.fsync", record)
    write_whole(path, "whole")
    assert synced == [(5, False)]
    sync(path)
    sync(tmp_path)
    assert len(synced) == 3
