"""`clean-cache`: what it removes, what it keeps, and what it says."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.__main__ import cli
from pipeline.cache_folder import CacheConfig, open_cache_folder


def write(folder: Path) -> int:
    (folder / "rows").write_bytes(bytes(2_000_000))
    return 1


def test_clean_cache_says_what_it_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATETABLE_BUILD", str(tmp_path))
    root = tmp_path / "cache"
    config = CacheConfig(mode="snapshot", root=root, name="words")
    folder = open_cache_folder(config, "ab" * 32, num_rows=1, fill=write)
    kept = CliRunner().invoke(cli, ["clean-cache"])
    assert kept.exit_code == 0
    assert kept.output.splitlines() == [
        f"kept {folder} (2.0 MB): a training is reading it",
        f"0.0 MB removed from {root}.",
    ]
    other = root / f"words-block-{'cd' * 16}"
    folder.rename(other)
    cleaned = CliRunner().invoke(cli, ["clean-cache"])
    assert cleaned.output.splitlines() == [
        f"removed {other} (2.0 MB)",
        f"2.0 MB removed from {root}.",
    ]
    assert not other.exists()


def test_clean_cache_without_any_cache_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATETABLE_BUILD", str(tmp_path))
    done = CliRunner().invoke(cli, ["clean-cache"])
    assert (done.exit_code, done.output) == (0, f"0.0 MB removed from {tmp_path / 'cache'}.\n")
