from __future__ import annotations

import csv
import gzip
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from export import score
from export.lookup import GoldenError, MissingFileError, load_lookup
from export.part_store import PartStore, ScoreError
from export.score import ScoreConfig, score_file
from export.text_table import read_slices
from export.utf8_stream import TableError
from tests.export.tiny import make_texts

ROOT = Path(__file__).parents[2]


def write_titles(path: Path, texts: list[str]) -> Path:
    """Write a CSV of two columns, every cell quoted."""
    text = io.StringIO(newline="")
    rows = [[str(row), title] for row, title in enumerate(texts)]
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([["id", "title"], *rows])
    path.write_bytes(text.getvalue().encode())
    return path


@pytest.fixture
def make_config(tiny_lookup: Path, tmp_path: Path) -> Callable[..., ScoreConfig]:
    """Return a function that makes a config around 100 titles, blocks of 8 rows."""
    write_titles(tmp_path / "in.csv", make_texts(100))

    def make(**changes: Any) -> ScoreConfig:
        fields = {
            "artifact": tiny_lookup,
            "source": tmp_path / "in.csv",
            "target": tmp_path / "out.csv",
            "part_rows": 16,
            "block_rows": 8,
        }
        return ScoreConfig(**{**fields, **changes})

    return make


def test_every_row_gets_what_predict_gives_in_the_order_of_the_file(
    make_config: Callable[..., ScoreConfig], tiny_lookup: Path
) -> None:
    texts = make_texts(100)
    config = make_config(k=2, threads=3)
    result = score_file(config)
    blank = sum(not text.strip() for text in texts)
    assert (result.rows, result.kept_rows, result.blank_rows) == (100, 0, blank)
    assert (result.rejected_rows, result.rejects) == (0, None)
    with config.target.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["id"], row["title"]) for row in rows] == [
        (str(number), text) for number, text in enumerate(texts)
    ]
    model = load_lookup(tiny_lookup)
    assert result.engine.split()[0] == model.engine.name
    for row, ((label_1, value_1), (label_2, value_2)) in zip(
        rows, model.predict(texts, 2), strict=True
    ):
        assert (row["label_1"], row["label_2"]) == (label_1, label_2)
        assert float(row["probability_1"]) == pytest.approx(value_1, abs=1e-6)
        assert float(row["probability_2"]) == pytest.approx(value_2, abs=1e-6)
    assert sorted(path.name for path in config.target.parent.iterdir()) == [
        ".out.csv.lock",
        "in.csv",
        "out.csv",
    ]


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    texts=st.lists(st.text(st.characters(codec="utf-8"), max_size=12), max_size=40),
    part_rows=st.integers(1, 50),
    threads=st.integers(1, 4),
    failing_part=st.integers(0, 6),
    ending=st.sampled_from(["csv", "csv.gz", "parquet"]),
)
def test_neither_parts_nor_threads_nor_a_failure_in_the_middle_change_a_byte(
    make_config: Callable[..., ScoreConfig],
    tmp_path: Path,
    texts: list[str],
    part_rows: int,
    threads: int,
    failing_part: int,
    ending: str,
) -> None:
    source = write_titles(tmp_path / "in.csv", texts)
    whole = make_config(source=source, target=tmp_path / f"whole.{ending}", restart=True)
    score_file(whole)
    config = make_config(target=tmp_path / f"out.{ending}", part_rows=part_rows, threads=threads)
    config.target.unlink(missing_ok=True)
    write = PartStore.write

    def fail(store: PartStore, number: int, table: Any) -> None:
        if number == failing_part:
            raise OSError(28, "No space left on device")
        write(store, number, table)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PartStore, "write", fail)
        try:
            score_file(config)
            failed = False
        except OSError:
            failed = True
    assert config.target.exists() is not failed
    if failed:
        result = score_file(config)
        assert result.kept_rows <= result.rows - 1
    assert config.target.read_bytes() == whole.target.read_bytes()


def start_child(config: ScoreConfig) -> subprocess.Popen[str]:
    code = (
        "import sys; from pathlib import Path; from export.score import ScoreConfig, score_file\n"
        f"score_file(ScoreConfig(artifact=Path({str(config.artifact)!r}), "
        f"source=Path({str(config.source)!r}), target=Path({str(config.target)!r}), "
        f"part_rows={config.part_rows}, block_rows={config.block_rows}, threads=2))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_run_killed_twice_gives_the_same_file_and_keeps_its_parts(
    make_config: Callable[..., ScoreConfig], tmp_path: Path
) -> None:
    source = write_titles(tmp_path / "in.csv", make_texts(30) * 100)
    whole = make_config(source=source, target=tmp_path / "whole.csv", part_rows=999)
    score_file(whole)
    config = make_config(source=source)
    for parts in (4, 40):
        child = start_child(config)
        try:
            while len(list(tmp_path.glob("out.csv.parts/part-*"))) < parts:
                assert child.poll() is None, child.communicate()[1]
                time.sleep(0.002)
            if parts == 4:
                with pytest.raises(ScoreError, match="found another one at work. Wait for it to"):
                    score_file(config)
        finally:
            child.send_signal(signal.SIGKILL)
            child.communicate(timeout=30)
        assert child.returncode == -signal.SIGKILL
        assert not config.target.exists()
    result = score_file(config)
    assert 40 * 16 <= result.kept_rows < result.rows == 3000
    assert config.target.read_bytes() == whole.target.read_bytes()


def test_a_run_killed_while_removing_its_parts_is_a_finished_one(
    make_config: Callable[..., ScoreConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config()
    with monkeypatch.context() as patch:
        patch.setattr("export.part_store.shutil.rmtree", lambda *_, **__: None)
        score_file(config)
    assert config.target.exists()
    with pytest.raises(ScoreError, match="expected a new file, found one of"):
        score_file(config)
    assert score_file(make_config(restart=True)).kept_rows == 0


def test_parts_of_other_options_need_a_restart(
    make_config: Callable[..., ScoreConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(score, "check_unchanged", lambda state: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            score_file(make_config())
    with pytest.raises(ScoreError, match="found parts begun with k 3, not 1. Run the earlier"):
        score_file(make_config(k=1))
    with pytest.raises(ScoreError, match="found parts begun with part_rows 16, not 24"):
        score_file(make_config(part_rows=17))
    assert score_file(make_config(k=1, restart=True)).kept_rows == 0
    assert score_file(make_config(restart=True)).rows == 100


def test_more_threads_may_finish_what_fewer_began(
    make_config: Callable[..., ScoreConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(score, "check_unchanged", lambda state: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            score_file(make_config(threads=1))
    assert score_file(make_config(threads=4)).kept_rows == 100


def test_rejected_rows_are_counted_and_kept(
    make_config: Callable[..., ScoreConfig], tmp_path: Path
) -> None:
    (tmp_path / "in.csv").write_text("id,title\n1,a\n2,b,c\n3,d\n")
    result = score_file(make_config())
    assert (result.rows, result.rejected_rows) == (2, 1)
    assert result.rejects == tmp_path / "out.csv.rejects.jsonl"
    assert '"row": 3' in result.rejects.read_text()


def test_a_table_without_rows_gives_one_without_rows(
    make_config: Callable[..., ScoreConfig], tmp_path: Path
) -> None:
    (tmp_path / "in.csv").write_text("id,title\n")
    config = make_config(target=tmp_path / "out.parquet", k=1)
    assert score_file(config).rows == 0
    names = parquet.read_table(config.target).column_names
    assert names == ["id", "title", "label_1", "probability_1"]


def test_slices_are_read_no_further_ahead_than_the_threads_need(
    make_config: Callable[..., ScoreConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = finished = most = 0

    def count(*arguments: Any) -> Any:
        nonlocal read, most
        for piece in read_slices(*arguments):
            read += 1
            most = max(most, read - finished)
            yield piece

    def note(what: str, done: int, total: int, rows: int) -> None:
        nonlocal finished
        finished += what == "scoring"

    monkeypatch.setattr(score, "read_slices", count)
    score_file(make_config(threads=2), note)
    assert (read, finished, most) == (7, 7, 3)


def test_progress_tells_bytes_then_rows(make_config: Callable[..., ScoreConfig]) -> None:
    told: list[tuple[str, int, int, int]] = []
    config = make_config()
    score_file(config, lambda *what: told.append(what))
    size = config.source.stat().st_size
    assert [what for what, *_ in told[:2]] == ["loading the model", "hashing the input"]
    assert [entry for entry in told if entry[0] == "scoring"][-1] == ("scoring", size, size, 100)
    assert told[-1] == ("writing the output", 100, 100, 100)


def test_the_input_is_never_overwritten(make_config: Callable[..., ScoreConfig]) -> None:
    with pytest.raises(ScoreError, match="expected another file than the input to write to, found"):
        make_config(target=make_config().source, restart=True)


@pytest.mark.parametrize("name", ["k", "part_rows", "threads", "block_rows"])
def test_settings_below_one_are_refused(make_config: Callable[..., ScoreConfig], name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected at least 1, found 0."):
        make_config(**{name: 0})


def test_more_labels_than_there_are_is_refused(make_config: Callable[..., ScoreConfig]) -> None:
    with pytest.raises(ScoreError, match=r"k: expected 1 to 5, the labels of .*lookup, found 6\."):
        score_file(make_config(k=6))


def test_bad_places_are_refused_before_any_work(
    make_config: Callable[..., ScoreConfig], tmp_path: Path
) -> None:
    with pytest.raises(MissingFileError, match="expected a lookup folder, found none"):
        score_file(make_config(artifact=tmp_path / "none"))
    with pytest.raises(TableError, match="expected a name that ends in .csv, .csv.gz or .parquet"):
        score_file(make_config(target=tmp_path / "out"))
    with pytest.raises(TableError, match="expected one column 'text', found none among 'id', 'tit"):
        score_file(make_config(text_column="text"))
    with pytest.raises(ValueError, match="engine: expected one of auto, .*found 'abacus'"):
        score_file(make_config(engine="abacus"))
    assert not (tmp_path / "out.csv.parts").exists()


def test_an_artifact_that_gives_other_answers_is_refused(
    make_config: Callable[..., ScoreConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def differ(*_: object, **__: object) -> None:
        raise GoldenError("golden.jsonl line 1: differs.")

    monkeypatch.setattr(score, "load_lookup", differ)
    with pytest.raises(GoldenError, match="differs"):
        score_file(make_config())


def test_a_gzipped_input_gives_the_same_scores(
    make_config: Callable[..., ScoreConfig], tmp_path: Path
) -> None:
    plain = make_config()
    score_file(plain)
    (tmp_path / "in.csv.gz").write_bytes(gzip.compress(plain.source.read_bytes()))
    packed = make_config(source=tmp_path / "in.csv.gz", target=tmp_path / "packed.csv")
    score_file(packed)
    assert packed.target.read_bytes() == plain.target.read_bytes()
