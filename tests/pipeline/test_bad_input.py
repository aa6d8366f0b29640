"""Every bad input a person can bring: one clear error, and nothing half-written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import filelock
import pytest

from pipeline.config import PrepareConfig
from pipeline.data_folder import read_prepared
from pipeline.prepare import prepare
from pipeline.tables.source import DataError, SourceConfig
from pipeline.tables.source_bytes import SourceLimits

MakeRows = Callable[[int], list[tuple[str, str]]]
MakeTable = Callable[..., SourceConfig]

CONFIG = PrepareConfig(vocab_size=100, shards=2)
CSV = b"title,category\n" + b"".join(b"cat %d,animal\niron %d,metal\n" % (i, i) for i in range(60))


def expect_error(source: SourceConfig, target: Path, match: str, **options: SourceLimits) -> None:
    """The error is as told, and the target's folder holds nothing but the lock."""
    with pytest.raises(DataError, match=match):
        prepare(source, CONFIG, target, **options)
    left = [path.name for path in target.parent.iterdir()] if target.parent.is_dir() else []
    assert left in ([], [f".{target.name}.lock"])


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "build" / "data" / "table"


def make_zip(path: Path, member: str = "table.csv", content: bytes = CSV) -> SourceConfig:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, content)
    return SourceConfig(path=path, member=member)


def test_missing_file(tmp_path: Path, target: Path) -> None:
    expect_error(SourceConfig(path=tmp_path / "no.csv"), target, r"no\.csv: .*found no such file")


def test_missing_zip(tmp_path: Path, target: Path) -> None:
    source = SourceConfig(path=tmp_path / "no.zip", member="table.csv")
    expect_error(source, target, r"no\.zip: .*no such file\. Check the path or ZIPFILE_NAME\.")


@pytest.mark.parametrize("content", [b"", b"PK", CSV])
def test_file_that_is_no_zip(tmp_path: Path, target: Path, content: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    source = SourceConfig(path=tmp_path / "a.zip", member="table.csv")
    expect_error(source, target, r"a\.zip: expected a ZIP, found a file that is none")


def test_zip_cut_short(tmp_path: Path, target: Path) -> None:
    source = make_zip(tmp_path / "a.zip")
    source.path.write_bytes(source.path.read_bytes()[:-30])
    expect_error(source, target, r"expected a ZIP, found a file that is none or is cut short")


def test_zip_without_that_member(tmp_path: Path, target: Path) -> None:
    path = make_zip(tmp_path / "a.zip").path
    source = SourceConfig(path=path, member="other.csv")
    expect_error(source, target, r"'other\.csv' inside, found no such member\. .*'table\.csv'\.")


def test_member_that_is_a_folder(tmp_path: Path, target: Path) -> None:
    source = make_zip(tmp_path / "a.zip", "folder/", b"")
    expect_error(source, target, r"expected one file 'folder/' inside, found a folder\.")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_member_that_is_there_twice(tmp_path: Path, target: Path) -> None:
    source = make_zip(tmp_path / "a.zip")
    with zipfile.ZipFile(source.path, "a") as archive:
        archive.writestr("table.csv", CSV)
    expect_error(source, target, r"expected one file 'table\.csv' inside, found 2 such member")


@pytest.mark.parametrize(
    "member", ["../table.csv", "/etc/table.csv", "a/../../b.csv", "C:\\t.csv", "..\\t.csv", "\\t"]
)
def test_member_that_points_outside(tmp_path: Path, target: Path, member: str) -> None:
    source = make_zip(tmp_path / "a.zip", member)
    expect_error(source, target, r"which points outside of the ZIP\. Such members are never read")


def test_encrypted_member(tmp_path: Path, target: Path) -> None:
    source = make_zip(tmp_path / "a.zip")
    content = bytearray(source.path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1  # general purpose flag: encrypted
    source.path.write_bytes(content)
    expect_error(source, target, r"expected an open member, found it encrypted\.")


def test_unknown_compression(tmp_path: Path, target: Path) -> None:
    source = make_zip(tmp_path / "a.zip")
    content = bytearray(source.path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        content[content.index(signature) + offset] = 97
    source.path.write_bytes(content)
    expect_error(source, target, r"expected a stored or deflated member, found one that cannot")


def test_damaged_member(tmp_path: Path, target: Path) -> None:
    source = make_zip(tmp_path / "a.zip")
    content = bytearray(source.path.read_bytes())
    content[content.index(b"PK\x01\x02") + 16] ^= 1  # its checksum
    content[14] ^= 1
    source.path.write_bytes(content)
    expect_error(source, target, r"expected readable data, found it damaged .*Bad CRC-32")


def test_bomb(tmp_path: Path, target: Path) -> None:
    source = make_zip(tmp_path / "a.zip", content=b"title,category\n" + b"a,b\n" * 2**20)
    limits = SourceLimits(ratio_from_bytes=2**20)
    expect_error(source, target, r"looks like a decompression bomb", limits=limits)


def test_announced_size_beyond_the_limit(tmp_path: Path, target: Path) -> None:
    limits = SourceLimits(max_bytes=1000)
    source = make_zip(tmp_path / "a.zip")
    expect_error(
        source, target, r"expected at most 1000 bytes .*found \d+ announced", limits=limits
    )


def test_wrong_columns(make_table: MakeTable, target: Path) -> None:
    source = make_table(b"headline,section\na,b\n")
    expect_error(source, target, r"column 'title', found none among 'headline', 'section'\. Name")


def test_empty_file(make_table: MakeTable, target: Path) -> None:
    expect_error(make_table(b""), target, r"a header and rows, found an empty file\.")


@pytest.mark.parametrize("content", [b"title,category", b"title,category\n", b"title,category\n\n"])
def test_header_only(make_table: MakeTable, target: Path, content: bytes) -> None:
    expect_error(make_table(content), target, r"rows below the header, found none\.")


def test_utf_16(make_table: MakeTable, target: Path) -> None:
    source = make_table(CSV.decode().encode("utf-16"))
    expect_error(source, target, r"expected UTF-8, found UTF-16\.")


def test_one_class_only(make_table: MakeTable, target: Path) -> None:
    rows = [(f"cat {number}", "animal") for number in range(100)]
    source = make_table(rows)
    expect_error(source, target, r"100 rows read.* at least 2 labels, found only 'animal'\.")


def test_ten_rows(make_rows: MakeRows, make_table: MakeTable, target: Path) -> None:
    source = make_table(make_rows(10))
    expect_error(source, target, r"expected at least 50 different usable texts, found 10\.")


def test_same_text_all_over(make_table: MakeTable, target: Path) -> None:
    source = make_table([("A cat!", "x"), ("a cat", "y")] * 99)
    expect_error(source, target, r"expected at least 50 different usable texts, found 1\.")


def test_undecodable_bytes_everywhere(make_table: MakeTable, target: Path) -> None:
    source = make_table(b"title,category\n" + b"\xff\xfe,animal\n" * 60)
    expect_error(source, target, r"rejected: undecodable_text 60\).* found 0\.")


def test_quote_that_never_closes(make_table: MakeTable, target: Path) -> None:
    source = make_table(b'title,category\n"cat,animal\n' + CSV * 2)
    limits = SourceLimits(block_bytes=1024)
    expect_error(source, target, r"longer one at or after row 2\. .*never closed", limits=limits)


def test_quote_that_swallows_the_rest_of_a_small_table(make_table: MakeTable, target: Path) -> None:
    source = make_table(b'title,category\n"cat,animal\n' + CSV)
    expect_error(source, target, r"1 rows read; rejected: quote_never_closed 1\)")


@pytest.mark.parametrize("place", ["file/data/t", "/proc/gatetable/data/t"])
def test_place_that_cannot_be_written(make_table: MakeTable, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("in the way")
    source = make_table(CSV)
    with pytest.raises(DataError, match=r"expected a place that can be written, found "):
        prepare(source, CONFIG, tmp_path / place)


def test_target_that_is_a_file(make_table: MakeTable, target: Path) -> None:
    target.parent.mkdir(parents=True)
    target.write_text("mine")
    with pytest.raises(DataError, match=r"expected a folder or nothing there, found a file\."):
        prepare(make_table(CSV), CONFIG, target)
    assert target.read_text() == "mine"


@pytest.mark.slow
def test_second_process_is_refused(make_table: MakeTable, target: Path) -> None:
    target.parent.mkdir(parents=True)
    with (
        filelock.FileLock(target.with_name(".table.lock")),
        pytest.raises(DataError, match=r"another process is preparing this folder\."),
    ):
        prepare(make_table(CSV), CONFIG, target)
    assert prepare(make_table(CSV), CONFIG, target).train.count > 0


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        if condition() or process.poll() is not None:
            return
        time.sleep(0.05)


KILLED = """
import sys
from pathlib import Path
import pipeline.prepare as module
from pipeline.config import PrepareConfig
from pipeline.tables.source import SourceConfig

def hang(folder, *args, **kwargs):
    (folder / "reached").write_text("")
    import time
    time.sleep(60)

module.{step} = hang
module.prepare(SourceConfig(path=Path(sys.argv[1])), PrepareConfig(vocab_size=100, shards=2),
               Path(sys.argv[2]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("older", [False, True])
def test_kill_half_way_leaves_nothing_half_written_and_a_rerun_completes(
    make_table: MakeTable, target: Path, older: bool
) -> None:
    source = make_table(CSV)
    if older:
        before = prepare(source, PrepareConfig(vocab_size=90, shards=1), target)
    script = KILLED.format(step="write_prepared")
    process = subprocess.Popen([sys.executable, "-c", script, str(source.path), str(target)])
    partial = target.with_name(".table.partial")
    wait_for((partial / "reached").exists, process)
    assert partial.is_dir()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    if older:
        assert read_prepared(target) == before
    else:
        with pytest.raises(DataError, match=r"is not a finished data folder\. Prepare it with"):
            read_prepared(target)
    data = prepare(source, CONFIG, target)
    assert data == read_prepared(target)
    assert not partial.exists()
    assert sorted(path.name for path in target.parent.iterdir()) == [".table.lock", "table"]
