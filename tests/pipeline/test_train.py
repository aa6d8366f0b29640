"""Training: runs worth exporting, resumed after kill -9, never trained twice."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import filelock
import jsonschema
import numpy as np
import pytest
from rich.console import Console

from pipeline.config import ModelConfig, PrepareConfig, TrainConfig
from pipeline.run_folder import RunError, load_model, read_run

pytestmark = pytest.mark.slow

ANIMALS = ["cat", "dog", "bird", "fish", "wolf", "고양이"]
TOOLS = ["hammer", "saw", "drill", "wrench", "plane", "망치"]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def table_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV whose two classes are told apart by one word of each text."""
    path = tmp_path_factory.mktemp("source") / "things.csv"
    rows = ["title,category"]
    for index in range(400):
        words = (ANIMALS, TOOLS)[index % 2]
        rows.append(f"the {words[index // 2 % 6]} number {index},{('animal', 'tool')[index % 2]}")
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def data(table_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    from pipeline.prepare import prepare
    from pipeline.tables.source import resolve_source

    config = PrepareConfig(vocab_size=100, max_tokens=16, shards=2)
    folder = tmp_path_factory.mktemp("data") / "things"
    return prepare(resolve_source(path=table_path), config, folder)


def shape(data: Any, **changes: Any) -> ModelConfig:
    fields = {"embed_dim": 8, "units": 6, "embedding_dropout": 0.1, "head_dropout": 0.1}
    return ModelConfig(
        vocab_size=data.vocab_size, num_classes=len(data.labels), **{**fields, **changes}
    )


SETTINGS: dict[str, Any] = {
    "num_epochs": 3,
    "batch_size": 32,
    "learning_rate": 0.02,
    "num_predict": 2,
    "deterministic": True,
}


@pytest.fixture(scope="module")
def run(data: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    from pipeline.train import train

    return train(data, shape(data), TrainConfig(**SETTINGS), tmp_path_factory.mktemp("runs"))


def test_a_run_holds_everything_export_needs(run: Any, data: Any) -> None:
    assert read_run(run.folder) == run
    assert run.labels == ("animal", "tool")
    assert run.tokenizer_path.read_bytes() == data.tokenizer_path.read_bytes()
    assert len(list(run.read_test_split())) == data.test.count
    assert set(run.metrics) == {"validation", "test"}
    assert set(run.metrics["test"]) == {"top_1", "top_2", "loss"}
    assert list((run.folder / "logs").rglob("events.*"))
    assert sorted(path.name for path in run.folder.iterdir()) == [
        *("confusion.svg", "data_card.json", "evaluation.html", "evaluation.json"),
        *(
            "history.json",
            "labels.json",
            "logs",
            "model.keras",
            "reliability.svg",
            "run.json",
            "test_predictions.npz",
        ),
        *("test_split.jsonl", "tokenizer.model", "words.txt"),
    ]


def test_run_json_keeps_to_its_schema(run: Any) -> None:
    schema = json.loads((ROOT / "pipeline" / "schema" / "run.schema.json").read_text())
    fields = json.loads((run.folder / "run.json").read_text())
    jsonschema.validate(fields, schema)
    assert fields["accounting"]
    assert fields["calibration"]


def test_a_run_keeps_the_words_of_its_training_split(run: Any, data: Any) -> None:
    texts, _ = data.train.read_rows()
    words = run.read_words()
    assert words[:2] == ["number", "the"]
    assert set(words) == {word for text in texts for word in text.split(" ")}


def test_a_finished_run_without_words_gets_them(run: Any, data: Any) -> None:
    from pipeline.train import train

    content = run.words_path.read_bytes()
    run.words_path.unlink()
    train(data, shape(data), TrainConfig(**SETTINGS), run.folder.parent)
    assert run.words_path.read_bytes() == content


def test_a_run_keeps_the_card_of_its_data_and_a_finished_one_gets_it(run: Any, data: Any) -> None:
    from pipeline.train import train

    kept = run.folder / "data_card.json"
    content = (data.folder / "data_card.json").read_bytes()
    assert kept.read_bytes() == content
    kept.unlink()
    train(data, shape(data), TrainConfig(**SETTINGS), run.folder.parent)
    assert kept.read_bytes() == content


def test_a_run_learns_and_its_metrics_are_those_of_the_saved_model(run: Any) -> None:
    from pipeline.tokenizer import encode_texts, load_processor

    texts, labels = zip(*run.read_test_split(), strict=True)
    rows = encode_texts(load_processor(run.tokenizer_path), texts, run.max_tokens)
    ids = np.zeros((len(rows), max(map(len, rows))), "int32")
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
    answers = load_model(run).predict(ids, verbose=0).argmax(axis=1)
    accuracy = float((answers == np.array(labels)).mean())
    assert accuracy == pytest.approx(run.metrics["test"]["top_1"])
    assert accuracy > 0.9


def test_the_history_has_one_value_an_epoch(run: Any) -> None:
    history = json.loads((run.folder / "history.json").read_text())
    assert {len(values) for name, values in history.items()} == {3}
    assert {"loss", "top_1", "top_2", "val_loss", "val_top_1", "val_top_2"} <= set(history)


def test_a_run_tells_what_it_cost(run: Any, data: Any) -> None:
    spent = run.accounting
    assert set(spent["seconds"]) == {"start", "train", "validation", "evaluation", "write"}
    assert all(seconds > 0 for seconds in spent["seconds"].values())
    assert spent["examples"] == 3 * data.train.count
    assert spent["examples_per_s"] == spent["examples"] / spent["seconds"]["train"]
    assert spent["peak_bytes"] > 10**8  # TensorFlow alone takes more
    assert spent["cell"] == "hoisted" and not spent["compute"]["is_compiled"]


def test_a_finished_run_is_not_trained_again(run: Any, data: Any) -> None:
    from pipeline.train import train

    before = run.model_path.stat().st_mtime_ns
    again = train(data, shape(data), TrainConfig(**SETTINGS), run.folder.parent)
    assert again == run
    assert run.model_path.stat().st_mtime_ns == before


def test_the_name_of_another_run_is_refused(run: Any, data: Any) -> None:
    from pipeline.train import train

    settings = TrainConfig(**{**SETTINGS, "seed": 2})
    with pytest.raises(RunError, match="a finished run of this name has other settings"):
        train(data, shape(data), settings, run.folder.parent, name=run.name)


def test_two_trainings_of_one_run_do_not_mix(data: Any, tmp_path: Path) -> None:
    from pipeline.train import train

    with (
        filelock.FileLock(tmp_path / ".mine.lock"),
        pytest.raises(RunError, match="another process is training this run"),
    ):
        train(data, shape(data), TrainConfig(**SETTINGS), tmp_path, name="mine")


def test_a_config_that_does_not_fit_the_data_is_refused(data: Any, tmp_path: Path) -> None:
    from pipeline.train import train

    wrong = ModelConfig(vocab_size=7, num_classes=2)
    with pytest.raises(ValueError, match=r"expected vocab_size \d+ and num_classes 2 as in"):
        train(data, wrong, TrainConfig(**SETTINGS), tmp_path)
    settings = TrainConfig(**{**SETTINGS, "num_predict": 3})
    with pytest.raises(ValueError, match="expected a value from 1 to the 2 classes, found 3"):
        train(data, shape(data), settings, tmp_path)


def test_early_stopping_keeps_the_best_epoch(data: Any, tmp_path: Path) -> None:
    from pipeline.train import train

    settings = TrainConfig(**{**SETTINGS, "num_epochs": 50, "patience": 2})
    run = train(data, shape(data), settings, tmp_path)
    curve = json.loads((run.folder / "history.json").read_text())["val_top_1"]
    assert len(curve) < 50
    assert len(curve) - 1 - curve.index(max(curve)) == 2
    assert run.metrics["validation"]["top_1"] == pytest.approx(max(curve))


KILLS = 10 if os.environ.get("GATETABLE_THOROUGH") else 4
TRAINER = """
import json, os, signal, sys, time
from pathlib import Path
from pipeline.run_folder import import_tensorflow
import_tensorflow()  # once; nothing of it runs before the fork
import numpy as np
import pipeline.train
from pipeline.config import ModelConfig, TrainConfig
from pipeline.data_folder import read_prepared

data, model, training, runs, partial, kills = sys.argv[1:]
state, rng, resumed_at = Path(partial) / "checkpoint.json", np.random.default_rng(2), []
while True:
    child = os.fork()
    if not child:
        pipeline.train.train(
            read_prepared(Path(data)), ModelConfig(**json.loads(model)),
            TrainConfig(**json.loads(training)), Path(runs), save_every_s=0)
        os._exit(0)
    # Killed a moment after it has come further than the last one.
    began_at = state.read_bytes() if state.is_file() else b""
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if len(resumed_at) < int(kills) and state.is_file() and state.read_bytes() != began_at:
            time.sleep(rng.uniform(0, 0.3))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            fields = json.loads(state.read_text())
            resumed_at.append([fields["epochs_done"], fields["steps_done"]])
            break
        time.sleep(0.005)
    else:
        break
print(json.dumps(resumed_at))
"""
"""Trains in a child that is killed again and again in mid-epoch, and prints where it stood."""


def test_a_training_killed_in_its_epochs_ends_like_an_unbroken_one(
    run: Any, data: Any, tmp_path: Path
) -> None:
    partial = tmp_path / "runs" / f".{run.name}.partial"
    model, settings = shape(data), TrainConfig(**SETTINGS)
    arguments = [
        str(data.folder),
        *(json.dumps(config.to_json()) for config in (model, settings)),
        *(str(tmp_path / "runs"), str(partial), str(KILLS)),
    ]
    done = subprocess.run(
        [sys.executable, "-c", TRAINER, *arguments],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        text=True,
        timeout=400,
        check=True,
    )
    resumed_at = json.loads(done.stdout.splitlines()[-1])
    assert len(resumed_at) == KILLS
    assert any(steps for _, steps in resumed_at), resumed_at  # not only between two epochs
    resumed = read_run(tmp_path / "runs" / run.name)
    for name, weight in _weights(resumed).items():
        np.testing.assert_array_equal(weight, _weights(run)[name], err_msg=name)
    assert resumed.metrics == run.metrics
    assert resumed.accounting["examples"] == run.accounting["examples"]
    curves = [json.loads((each.folder / "history.json").read_text()) for each in (resumed, run)]
    assert curves[0] == curves[1]


def test_a_deterministic_training_takes_no_rows_from_a_service(data: Any, tmp_path: Path) -> None:
    from pipeline.service.config import ServiceConfig
    from pipeline.train import train

    service = ServiceConfig(address="grpc://127.0.0.1:5050")
    with pytest.raises(ValueError, match="deterministic: expected no data service, found one"):
        train(data, shape(data), TrainConfig(**SETTINGS), tmp_path, service=service)


def _weights(run: Any) -> dict[str, np.ndarray]:
    return {weight.path: weight.numpy() for weight in load_model(run).weights}


def test_skip_gram_says_when_it_reads_a_part_of_the_texts(
    data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.model import build_model
    from pipeline.train import start_embedding

    monkeypatch.setattr("pipeline.embedding_init._MAX_PIECES", 1)
    console = Console(record=True, file=io.StringIO())
    model = build_model(shape(data))
    start_embedding(model, data, TrainConfig(embedding_init="skip_gram"), console)
    said = console.export_text()
    assert re.search(rf"Read: the first \d+ of {data.train.count} training texts\.", said)
