"""Cache folders: right or absent, never stale, never half, whoever dies and whoever else writes."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cache_folder import (
    CacheConfig,
    clean_caches,
    compute_cache_key,
    open_cache_folder,
)
from pipeline.tables.source import DataError

ROOT = Path(__file__).parents[2]
KEY = "ab" * 32
ROWS = 400

WRITER = """
import sys, time
from pathlib import Path
from pipeline.cache_folder import CacheConfig, open_cache_folder

root, key, pause_s, hold_s = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), float(sys.argv[4])

def fill(folder):
    with (root / "fills").open("a") as log:
        log.write("fill\\n")
    (folder / "blocks").mkdir()
    with (folder / "blocks" / "rows").open("wb") as file:
        for row in range(400):
            file.write(row.to_bytes(2, "little"))
            file.flush()
            time.sleep(pause_s)
    return 400

config = CacheConfig(mode="block", root=root, name="words", notify=lambda text: None)
folder = open_cache_folder(config, key, num_rows=400, fill=fill)
print(folder, flush=True)
time.sleep(hold_s)
"""
"""A process that writes 400 rows slowly, and then reads its cache for a while."""


def start_writer(
    root: Path, *, key: str = KEY, pause_s: float = 0.0, hold_s: float = 0.0
) -> subprocess.Popen[str]:
    arguments = [str(root), key, str(pause_s), str(hold_s)]
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


def write_rows(folder: Path, rows: int = ROWS) -> int:
    (folder / "blocks").mkdir()
    (folder / "blocks" / "rows").write_bytes(
        b"".join(row.to_bytes(2, "little") for row in range(rows))
    )
    return rows


def never(folder: Path) -> int:
    raise AssertionError(f"{folder} is made again")


def open_cache(
    root: Path, fill: Callable[[Path], int] = write_rows, *, key: str = KEY
) -> tuple[Path, list[str]]:
    notices: list[str] = []
    config = CacheConfig(mode="block", root=root, name="words", notify=notices.append)
    return open_cache_folder(config, key, num_rows=ROWS, fill=fill), notices


def visible(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if not path.name.startswith("."))


def test_a_cache_is_made_once_and_says_where_and_how_large_it_is(tmp_path: Path) -> None:
    folder, notices = open_cache(tmp_path)
    assert folder == tmp_path / f"words-block-{KEY[:32]}"
    assert notices == [
        f"Writing 400 tokenised rows to {folder}.",
        f"Cache: {folder} (0.0 MB, 400 rows).",
    ]
    again, notices = open_cache(tmp_path, never)
    assert (again, notices) == (folder, [f"Cache: {folder} (0.0 MB, 400 rows)."])


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"\x01" + path.read_bytes()[1:]),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.unlink(),
        lambda path: (path.parent / "more").write_bytes(b""),
        lambda path: (path.parents[1] / "manifest.json").write_text("[]"),
        lambda path: (path.parents[1] / "manifest.json").write_text('{"schema_version": 1}'),
        lambda path: (path.parents[1] / "manifest.json").unlink(),
    ],
    ids=["byte", "cut", "missing", "additional", "no object", "no key", "no manifest"],
)
def test_a_damaged_cache_is_made_again(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    folder, _ = open_cache(tmp_path)
    rows = folder / "blocks" / "rows"
    content = rows.read_bytes()
    damage(rows)
    _, notices = open_cache(tmp_path)
    assert notices[0] == f"{folder}: this cache is damaged and is made again."
    assert rows.read_bytes() == content
    assert [path.name for path in rows.parent.iterdir()] == ["rows"]


def test_a_cache_with_too_few_rows_is_not_published(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"expected 400 rows as in data.json, found 3. Prepare again with `make"
    ):
        open_cache(tmp_path, lambda folder: write_rows(folder, 3))
    assert visible(tmp_path) == []


def test_an_error_while_writing_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        open_cache(tmp_path, lambda folder: write_rows(folder) // 0)
    assert visible(tmp_path) == []
    assert not list(tmp_path.glob(".*.partial"))


def test_a_place_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        DataError, match=r"expected a place that can be written, found .* --cache memory\."
    ):
        open_cache(tmp_path / "file")


def test_killed_writers_leave_nothing_that_is_ever_read(tmp_path: Path) -> None:
    rng = random.Random(5)
    for _ in range(20):
        writer = start_writer(tmp_path, pause_s=0.001)
        time.sleep(rng.uniform(0.05, 0.5))
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        for folder in tmp_path.glob("words-*"):  # published before it was killed: then whole
            assert json.loads((folder / "manifest.json").read_text())["rows"] == ROWS
            assert len((folder / "blocks" / "rows").read_bytes()) == 2 * ROWS
    open_cache(tmp_path, key="cd" * 32)  # whoever comes next, for whatever key, cleans up
    assert not list(tmp_path.glob(".*.partial"))
    open_cache(tmp_path)


def test_of_two_writers_one_writes_and_both_read(tmp_path: Path) -> None:
    # The one that writes holds its cache longer than the other may wait for it.
    writers = [start_writer(tmp_path, pause_s=0.001, hold_s=60) for _ in range(2)]
    try:
        folders = {writer.stdout.readline().strip() for writer in writers}
        assert folders == {str(tmp_path / f"words-block-{KEY[:32]}")}
        assert (tmp_path / "fills").read_text() == "fill\n"
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()


def test_cleaning_removes_what_nobody_reads(tmp_path: Path) -> None:
    reader = start_writer(tmp_path, key="cd" * 32, hold_s=60)
    try:
        used = Path(reader.stdout.readline().strip())
        idle = start_writer(tmp_path)
        free = Path(idle.communicate()[0].strip())
        found = {cache.folder: cache for cache in clean_caches(tmp_path)}
        assert {folder: cache.removed for folder, cache in found.items()} == {
            used: False,
            free: True,
        }
        assert found[free].size_bytes > 2 * ROWS
        assert (used.exists(), free.exists()) == (True, False)
    finally:
        reader.kill()
        reader.communicate()
    assert [cache.removed for cache in clean_caches(tmp_path)] == [True]
    assert visible(tmp_path) == ["fills"]


@given(
    contents=st.lists(st.binary(min_size=1, max_size=8), min_size=1, max_size=3),
    data=st.data(),
)
def test_a_key_changes_with_every_byte_and_every_option(
    tmp_path_factory: pytest.TempPathFactory, contents: list[bytes], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("files")
    paths = [folder / str(index) for index in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    key = compute_cache_key(paths, {"max_tokens": 3})
    assert key == compute_cache_key(paths, {"max_tokens": 3})
    assert key != compute_cache_key(paths, {"max_tokens": 4})
    assert key != compute_cache_key([*paths, paths[0]], {"max_tokens": 3})
    path = data.draw(st.sampled_from(paths))
    place = data.draw(st.integers(0, len(path.read_bytes()) - 1))
    flipped = bytearray(path.read_bytes())
    flipped[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(flipped)
    assert key != compute_cache_key(paths, {"max_tokens": 3})


def test_a_config_names_its_modes_and_what_they_need() -> None:
    with pytest.raises(
        ValueError, match="cache: expected one of memory, block, snapshot, none, found 'disk'"
    ):
        CacheConfig(mode="disk")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="cache: mode 'block' needs a root folder, found none"):
        CacheConfig(mode="block")
