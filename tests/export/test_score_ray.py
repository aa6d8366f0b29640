from __future__ import annotations

import csv
import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from export.lookup import load_lookup
from export.part_store import PartStore, ScoreError
from export.score import ScoreConfig, score_file
from tests.export.tiny import make_texts

ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:::ray"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """A Ray instance of two cores on this machine."""
    root = str(Path(__file__).parents[2])
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": root, "OPENBLAS_NUM_THREADS": "1"}},
    )
    yield
    ray.shutdown()


@pytest.fixture
def make_config(tiny_lookup: Path, tmp_path: Path) -> Callable[..., ScoreConfig]:
    """Return a function that makes a config around 1000 titles, some of them rejected."""
    with (tmp_path / "in.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "title"])
        writer.writerows([str(row), title] for row, title in enumerate(make_texts(40) * 25))
        writer.writerow(["one", "too", "many"])

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


def score_on_two(config: ScoreConfig) -> Any:
    from export.score_ray import score_on_ray

    return score_file(config, score_parts=functools.partial(score_on_ray, workers=2))


def test_two_workers_give_the_bytes_of_one_process(
    make_config: Callable[..., ScoreConfig], tmp_path: Path
) -> None:
    local = make_config(target=tmp_path / "local.csv")
    score_file(local)
    result = score_on_two(make_config())
    assert (result.rows, result.kept_rows, result.rejected_rows) == (1000, 0, 1)
    assert result.workers == 2
    assert (tmp_path / "out.csv").read_bytes() == local.target.read_bytes()
    for target in ("out.csv", "local.csv"):
        assert '"row": 1002' in (tmp_path / f"{target}.rejects.jsonl").read_text()


def test_workers_finish_what_threads_began(
    make_config: Callable[..., ScoreConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = make_config(target=tmp_path / "local.csv")
    score_file(local)
    write = PartStore.write

    def fail(store: PartStore, number: int, table: Any) -> None:
        if number == 30:
            raise OSError(28, "No space left on device")
        write(store, number, table)

    with monkeypatch.context() as patch:
        patch.setattr(PartStore, "write", fail)
        with pytest.raises(OSError, match="No space left"):
            score_file(make_config())
    result = score_on_two(make_config())
    assert result.kept_rows >= 30 * 16
    assert (tmp_path / "out.csv").read_bytes() == local.target.read_bytes()


def test_a_damaged_input_is_told_in_its_own_words(
    make_config: Callable[..., ScoreConfig], tmp_path: Path
) -> None:
    config = make_config(part_rows=2**16)
    with config.source.open("ab") as file:
        file.write(b"1,text\n" * 2**20 + b"2,caf\xe9\n")
    with pytest.raises(
        ScoreError, match=r"Ray: .*expected UTF-8, found the byte 0xe9 in .*UTF-8\.$"
    ):
        score_on_two(config)


def test_a_dataset_of_ones_own_is_scored_in_batches(tiny_lookup: Path, tmp_path: Path) -> None:
    from export.score_ray import Scorer

    texts = make_texts(40) * 5
    parquet.write_table(pyarrow.table({"headline": texts}), tmp_path / "in.parquet")
    scored = ray.data.read_parquet(str(tmp_path / "in.parquet")).map_batches(
        Scorer,
        batch_size=64,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=2),
        num_cpus=0.5,  # leaves cores for reading
        fn_constructor_kwargs={"artifact": str(tiny_lookup), "text_column": "headline", "k": 2},
    )
    model = load_lookup(tiny_lookup)
    expected = dict(zip(texts, model.predict(texts, 2), strict=True))
    rows = scored.take_all()
    assert sorted(row["headline"] for row in rows) == sorted(texts)
    for row in rows:
        (label_1, value_1), (label_2, value_2) = expected[row["headline"]]
        assert (row["label_1"], row["label_2"]) == (label_1, label_2)
        assert row["probability_1"] == pytest.approx(value_1, abs=1e-5)
        assert row["probability_2"] == pytest.approx(value_2, abs=1e-5)


def test_a_worker_without_the_artifact_says_so(tmp_path: Path) -> None:
    from export.score_ray import Scorer

    with pytest.raises(Exception, match="expected a lookup folder, found none"):
        Scorer(os.fspath(tmp_path / "none"))
