"""The run folder: what is written is what is read, and damage is named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import ModelConfig
from pipeline.run_folder import (
    Run,
    RunError,
    check_run_name,
    describe_calibration,
    find_run,
    load_model,
    read_run,
    remove_run,
    write_run,
)


def publish(runs: Path, name: str = "first", **changes: Any) -> Run:
    partial = runs / f".{name}.partial"
    partial.mkdir(parents=True)
    (partial / "model.keras").write_bytes(b"keras")
    (partial / "tokenizer.model").write_bytes(b"pieces")
    (partial / "test_split.jsonl").write_text(
        '{"text": "a cat", "label": 1}\n{"text": "고양이", "label": 0}\n', encoding="utf-8"
    )
    fields: dict[str, Any] = {
        "model": ModelConfig(vocab_size=20, num_classes=2),
        "training": {"num_predict": 2},
        "metrics": {"test": {"top_1": 0.5, "top_2": 1.0, "loss": 0.7}},
        "data": {"name": "cats", "fingerprint": "f00"},
        "labels": ["no", "예"],
        "max_tokens": 64,
        "versions": {"keras": "3"},
        "seed": 7,
        "history": {"loss": [1.0, 0.5]},
    }
    return write_run(partial, runs / name, **{**fields, **changes})


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    run = publish(tmp_path)
    assert read_run(tmp_path / "first") == run
    assert run.labels == ("no", "예")
    assert run.model == ModelConfig(vocab_size=20, num_classes=2)
    assert list(run.read_test_split()) == [("a cat", 1), ("고양이", 0)]
    assert not (tmp_path / ".first.partial").exists()


def test_a_run_of_before_calibration_is_not_calibrated(tmp_path: Path) -> None:
    sides = {"before": {"ece": 0.1, "nll": 0.9}, "after": {"ece": 0.05, "nll": 0.8}}
    calibration = {"temperature": 0.8, "note": None, "validation": sides, "test": sides}
    assert publish(tmp_path, calibration=calibration).calibration == calibration
    path = tmp_path / "first" / "run.json"
    fields = json.loads(path.read_text())
    del fields["calibration"]
    path.write_text(json.dumps(fields))
    assert read_run(tmp_path / "first").calibration == {}


def test_a_calibration_is_described_by_what_it_changed() -> None:
    sides = {"before": {"ece": 0.0543, "nll": 0.7751}, "after": {"ece": 0.0121, "nll": 0.7612}}
    calibration = {"temperature": 0.84321, "note": None, "validation": sides, "test": sides}
    assert describe_calibration(calibration) == (
        "The probabilities are calibrated: the logits were divided by 0.8432, fitted on the "
        "validation split, and every form has that in its head. On the test split the expected "
        "calibration error was 5.43% before and is 1.21% now, the negative log-likelihood was "
        "0.7751 and is 0.7612."
    )


def test_probabilities_that_are_not_calibrated_are_called_so() -> None:
    assert describe_calibration({}) == (
        "The probabilities are those of the training objective; they are not calibrated."
    )
    note = {"temperature": 1.0, "note": "Not fitted: 40 validation rows, fewer than 100."}
    assert describe_calibration(note) == (
        "The probabilities are those of the training objective. Not fitted: 40 validation rows, "
        "fewer than 100."
    )


def test_the_newest_run_is_found_without_a_name(tmp_path: Path) -> None:
    publish(tmp_path, "first")
    publish(tmp_path, "second")
    assert find_run(tmp_path) == tmp_path / "second"
    assert find_run(tmp_path, "first") == tmp_path / "first"


def test_no_run_yet_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no finished run yet. Train one with `make train`"):
        find_run(tmp_path)


def test_an_unknown_run_lists_the_known_ones(tmp_path: Path) -> None:
    publish(tmp_path, "first")
    with pytest.raises(RunError, match="no run named 'third'; there are: first"):
        find_run(tmp_path, "third")


@pytest.mark.parametrize("name", ["", "../up", ".hidden", "a/b", "x" * 101, "a b"])
def test_a_run_name_cannot_leave_its_folder(name: str) -> None:
    with pytest.raises(ValueError, match="name: expected 1 to 100 letters"):
        check_run_name(name)


def test_an_existing_run_is_not_overwritten(tmp_path: Path) -> None:
    publish(tmp_path)
    with pytest.raises(RunError, match="the run exists. Choose another --name or pass --force"):
        publish(tmp_path)


def test_a_run_without_a_model_is_not_published(tmp_path: Path) -> None:
    (tmp_path / ".x.partial").mkdir()
    with pytest.raises(RunError, match="expected model.keras before the run is published"):
        write_run(
            tmp_path / ".x.partial",
            tmp_path / "x",
            model=ModelConfig(vocab_size=20, num_classes=2),
            training={},
            metrics={},
            data={},
            labels=[],
            max_tokens=1,
            versions={},
            seed=0,
            history={},
        )
    assert not (tmp_path / "x").exists()


def test_a_missing_folder_is_no_finished_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such file, so .*nothing is not a finished run"):
        read_run(tmp_path / "nothing")


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    run = publish(tmp_path)
    fields = json.loads((run.folder / "run.json").read_text())
    (run.folder / "run.json").write_text(json.dumps({**fields, "schema_version": 99}))
    with pytest.raises(RunError, match="expected schema_version 1 to 1, found 99"):
        read_run(run.folder)


@pytest.mark.parametrize("content", ["", "{", "[1", "\ufffe"])
def test_a_damaged_run_json_is_named(tmp_path: Path, content: str) -> None:
    run = publish(tmp_path)
    (run.folder / "run.json").write_text(content, encoding="utf-8")
    with pytest.raises(RunError, match=r"run\.json: expected JSON, found"):
        read_run(run.folder)


def test_a_field_that_is_missing_is_named(tmp_path: Path) -> None:
    run = publish(tmp_path)
    fields = json.loads((run.folder / "run.json").read_text())
    del fields["max_tokens"]
    (run.folder / "run.json").write_text(json.dumps(fields))
    with pytest.raises(RunError, match="KeyError.'max_tokens'."):
        read_run(run.folder)


def test_labels_that_do_not_fit_the_model_are_refused(tmp_path: Path) -> None:
    run = publish(tmp_path)
    (run.folder / "labels.json").write_text('["one"]')
    with pytest.raises(RunError, match=r"expected 2 labels as in run.json, found 1"):
        read_run(run.folder)


def test_a_missing_tokenizer_is_named(tmp_path: Path) -> None:
    run = publish(tmp_path)
    run.tokenizer_path.unlink()
    with pytest.raises(RunError, match=r"tokenizer\.model: no such file. Train again"):
        read_run(run.folder)


def test_a_damaged_test_split_names_its_line(tmp_path: Path) -> None:
    run = publish(tmp_path)
    with run.test_split_path.open("a", encoding="utf-8") as lines:
        lines.write('{"text": "cut off')
    with pytest.raises(RunError, match='line 3: expected .*, found \'{"text": "cut off\''):
        list(run.read_test_split())


def test_words_of_the_training_split_are_optional(tmp_path: Path) -> None:
    run = publish(tmp_path)
    assert run.read_words() is None
    run.words_path.write_bytes("cat\n고양이\n".encode())
    assert read_run(run.folder).read_words() == ["cat", "고양이"]


def test_damaged_words_say_how_to_make_them_anew(tmp_path: Path) -> None:
    run = publish(tmp_path)
    run.words_path.write_bytes(b"a cat\n")
    message = r"words\.txt: word 1: expected .*, found 'a cat'\. Delete the file and call `make tr"
    with pytest.raises(RunError, match=message):
        run.read_words()


def test_a_removed_run_leaves_nothing(tmp_path: Path) -> None:
    run = publish(tmp_path)
    remove_run(run.folder)
    assert [path.name for path in tmp_path.iterdir()] == ["latest"]


@pytest.mark.slow
def test_a_file_that_is_no_keras_model_is_refused(tmp_path: Path) -> None:
    run = publish(tmp_path)
    with pytest.raises(RunError, match=r"model\.keras: expected a Keras model, found"):
        load_model(run)


@pytest.mark.slow
def test_importing_tensorflow_is_quiet_and_leaves_stderr_in_place() -> None:
    code = (
        "import os; from pipeline.run_folder import import_tensorflow as quiet\n"
        "assert quiet().__name__ == 'tensorflow'; os.write(2, b'still here')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        env={name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "still here")
