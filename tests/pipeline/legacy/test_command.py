"""`import-cudnn` on files Keras 2 wrote: runs that answer and export, refusals with reasons."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from click.testing import CliRunner, Result

from pipeline.__main__ import cli
from pipeline.run_folder import find_run, load_model, read_run

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]
WORDS = ["ab", "ba", "abc", "cab", "bac", "aab", "cc", "bb"]


@pytest.fixture(scope="module")
def companions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tokenizer.model of 20 pieces, labels.txt and texts.csv."""
    folder = tmp_path_factory.mktemp("companions")
    random = np.random.default_rng(3)
    texts = [" ".join(random.choice(WORDS, int(random.integers(1, 6)))) for _ in range(120)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_prefix=str(folder / "tokenizer"),
        model_type="bpe",
        vocab_size=20,
        hard_vocab_limit=True,
        pad_id=0,
        unk_id=1,
        bos_id=-1,
        eos_id=-1,
        minloglevel=2,
    )
    (folder / "labels.txt").write_text("x\ny\nz\n")
    rows = [f"{text},{'xyz'[number % 3]}" for number, text in enumerate(texts)]
    (folder / "texts.csv").write_text("\n".join(["title,category", *rows]) + "\n")
    return folder


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("build")


def call(weights: Path, companions: Path, build: Path, *options: str) -> Result:
    arguments = ["import-cudnn", str(weights), "--tokenizer", str(companions / "tokenizer.model")]
    arguments += ["--labels", str(companions / "labels.txt")]
    arguments += ["--texts", str(companions / "texts.csv"), *options]
    return CliRunner().invoke(cli, arguments, env={"GATETABLE_BUILD": str(build)})


@pytest.mark.parametrize("name", ["cudnn", "cudnn_bi", "cudnn_bi_deep", "gru", "gru_bi"])
@pytest.mark.parametrize("suffix", ["", "_model"])
def test_each_kind_becomes_a_run_with_the_weights_it_had(
    legacy_files: Path, companions: Path, build: Path, name: str, suffix: str
) -> None:
    options = [] if suffix or name != "cudnn_bi" else ["--pooling", "last", "--relu"]
    done = call(legacy_files / f"{name}{suffix}.h5", companions, build, *options)
    assert done.exit_code == 0, done.output
    run = read_run(find_run(build / "runs"))
    wanted = {"cudnn": "max", "cudnn_bi": "last", "cudnn_bi_deep": "mean"}.get(name, "max")
    assert (run.model.pooling, run.model.relu) == (wanted, name == "cudnn_bi")
    assert run.model.directions == (2 if "_bi" in name else 1)
    assert f"top-1 {100 * run.metrics['test']['top_1']:.2f} %" in done.output
    assert ("Assumed:" in done.output) == (not suffix and not options)
    with np.load(legacy_files / f"{name}.npz") as file:
        legacy = [file[key] for key in file.files]
    ours = load_model(run).get_weights()
    assert len(ours) == len(legacy)
    for mine, theirs in zip(ours, legacy, strict=True):
        assert sorted(np.abs(mine).ravel()) == sorted(np.abs(theirs).ravel())


@pytest.mark.parametrize("name", ["gru", "gru_bi"])
def test_answers_are_those_of_keras_2(
    legacy_files: Path, companions: Path, build: Path, name: str
) -> None:
    done = call(legacy_files / f"{name}.h5", companions, build, "--name", f"answers-{name}")
    assert done.exit_code == 0, done.output
    model = load_model(read_run(build / "runs" / f"answers-{name}"))
    with np.load(legacy_files / f"{name}_answers.npz") as file:
        answers = file["answers"]
        rows = [file[f"arr_{number}"] for number in range(len(answers))]
    for row, answer in zip(rows, answers, strict=True):
        assert np.abs(np.asarray(model(row[None]))[0] - answer).max() < 1e-6


def test_an_imported_run_exports_like_any_other(
    legacy_files: Path, companions: Path, build: Path
) -> None:
    done = call(legacy_files / "cudnn_bi_model.h5", companions, build, "--name", "exported")
    assert done.exit_code == 0, done.output
    exported = subprocess.run(
        [sys.executable, "-m", "export", "export", "--run", "exported"],
        cwd=ROOT,
        env={**os.environ, "GATETABLE_BUILD": str(build)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert exported.returncode == 0, exported.stdout + exported.stderr
    assert list((build / "artifacts").glob("*/1/manifest.json"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "reset_before",
            "this layer was made with reset_after=False, which applies the reset gate",
        ),
        ("hard_sigmoid_model", "expected recurrent_activation 'sigmoid', found 'hard_sigmoid'"),
        ("lstm", "Four gates would be an LSTM"),
        ("sigmoid_head_model", "expected activation 'softmax', found 'sigmoid'"),
    ],
)
def test_layouts_with_other_arithmetic_are_refused(
    legacy_files: Path, companions: Path, build: Path, name: str, message: str
) -> None:
    before = set((build / "runs").glob("*")) if (build / "runs").is_dir() else set()
    done = call(legacy_files / f"{name}.h5", companions, build, "--name", "refused")
    assert done.exit_code == 2
    assert message in done.output
    assert set((build / "runs").glob("*")) == before


def test_companions_that_do_not_fit_are_refused(
    legacy_files: Path, companions: Path, build: Path, tmp_path: Path
) -> None:
    weights = legacy_files / "cudnn.h5"

    def refuse(option: str, content: str, message: str) -> None:
        path = tmp_path / "file.csv"
        path.write_text(content)
        done = call(weights, companions, build, option, str(path))
        assert done.exit_code == 2
        assert message in done.output

    refuse("--labels", "x\ny\n", "expected 3 different labels, one an output of the model, found 2")
    refuse("--labels", '["x", "y", 3]', "expected labels that are texts")
    refuse("--labels", "[" * 100_000, "expected a JSON list of labels")
    refuse("--texts", "title,category\nab,w\n", "row 2: expected one of the model's 3 labels")
    refuse("--texts", "title,category\n", "expected held-out texts, found none")
    refuse("--tokenizer", "no model", "expected a SentencePiece model")
    done = call(weights, companions, build, "--name", "../elsewhere")
    assert done.exit_code == 2
    assert "name: expected 1 to 100 letters" in done.output


def test_a_taken_name_is_refused_and_the_run_stays(
    legacy_files: Path, companions: Path, build: Path
) -> None:
    assert call(legacy_files / "gru.h5", companions, build, "--name", "taken").exit_code == 0
    before = (build / "runs/taken/run.json").read_bytes()
    again = call(legacy_files / "gru.h5", companions, build, "--name", "taken")
    assert again.exit_code == 2
    assert "the run exists. Choose another --name." in again.output
    assert (build / "runs/taken/run.json").read_bytes() == before
