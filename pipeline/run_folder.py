"""First contract: the run folder. `write_run` and `read_run` are inverses.

A run folder holds everything export needs, and nothing else is read:

    run.json           schema version, configs, metrics, data fingerprint, versions, seed
    model.keras        the trained Keras model
    tokenizer.model    SentencePiece BPE with the normalisation rules compiled in
    labels.json        label names in id order
    history.json       per-epoch values
    test_split.jsonl   the held-out texts, {"text", "label"} a line: agreement is proven on them
    words.txt          raw words of the training split, one a line, most frequent first; optional,
                       as runs of earlier versions have none
    evaluation.json    measures class by class; with it `evaluation.html`, `confusion.svg`,
                       `reliability.svg` and `test_predictions.npz`; optional
    data_card.json     the data folder's, for the model card; optional
    logs/              TensorBoard

Importing this module pulls no TensorFlow; `load_model` does, when called.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import ModelConfig as ModelConfig  # part of this contract
from pipeline.config import describe_shape as describe_shape
from pipeline.json_file import read_bounded_json, write_json
from pipeline.whole_file import write_whole
from pipeline.word_list import read_words

if TYPE_CHECKING:
    import keras

RUN_SCHEMA_VERSION = 1
LATEST_FILE = "latest"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class RunError(Exception):
    """A run folder that cannot be read: missing, damaged, or of a newer schema."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One trained run as its folder describes it.

    Attributes:
        folder: Where it lies.
        name: Folder name, unique among runs.
        model: Shape of the classifier.
        training: `TrainConfig` fields as JSON values.
        metrics: `{"validation"|"test": {"top_1", "top_3", "loss"}}`, fractions; the k of the
            second is `training["num_predict"]`, its key stays `top_3` when k is 3.
        data: Data fingerprint and counts, from the data folder.
        labels: Label names in id order, C of them.
        max_tokens: Texts are cut to so many ids, in every path.
        versions: Library name to version at training time.
        seed: Seed of weights and order.
        accounting: What the training cost: `seconds` by stage (start, pretraining, train,
            validation, evaluation, write), `examples`, `examples_per_s` of the stage train,
            `peak_bytes`, `energy_joules` or None; empty for runs of earlier versions.
        calibration: The `temperature` that the head was divided by, a `note` or None, and for each
            split `ece` and `nll` `before` and `after`; empty where the run was not calibrated.
    """

    folder: Path
    name: str
    model: ModelConfig
    training: Mapping[str, Any]
    metrics: Mapping[str, Mapping[str, float]]
    data: Mapping[str, Any]
    labels: tuple[str, ...]
    max_tokens: int
    versions: Mapping[str, str]
    seed: int
    accounting: Mapping[str, Any]
    calibration: Mapping[str, Any] = field(default_factory=dict)

    @property
    def model_path(self) -> Path:
        """The trained model, Keras v3 format."""
        return self.folder / "model.keras"

    @property
    def tokenizer_path(self) -> Path:
        """The SentencePiece model."""
        return self.folder / "tokenizer.model"

    @property
    def test_split_path(self) -> Path:
        """The held-out texts, JSON Lines."""
        return self.folder / "test_split.jsonl"

    @property
    def words_path(self) -> Path:
        """The raw words of the training split; may be absent."""
        return self.folder / "words.txt"

    def read_words(self) -> list[str] | None:
        """Return the raw words of the training split, most frequent first.

        Returns:
            Distinct words in the limits of `pipeline.word_list`; None when the run was trained
            before runs kept their words.

        Raises:
            RunError: The file is not of the documented form.
        """
        if not self.words_path.is_file():
            return None
        try:
            return read_words(self.words_path)
        except ValueError as err:
            raise RunError(
                f"{self.words_path}: {err} Delete the file and call `make train` again, which "
                "writes it anew."
            ) from err

    def read_test_split(self) -> Iterator[tuple[str, int]]:
        """Yield (text, label id) of the held-out split in its stable order.

        Raises:
            RunError: A line is not of the documented form.
        """
        with self.test_split_path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    row = json.loads(line)
                    yield str(row["text"]), int(row["label"])
                except (ValueError, KeyError, TypeError) as err:
                    raise RunError(
                        f"{self.test_split_path} line {number}: expected "
                        '{"text": ..., "label": ...}, '
                        f"found {line[:60]!r}. Train again with `make train`."
                    ) from err


def describe_calibration(calibration: Mapping[str, Any]) -> str:
    """Return what a run's `calibration` says, whole sentences for people."""
    if not calibration:
        return "The probabilities are those of the training objective; they are not calibrated."
    if calibration["note"] is not None:
        return f"The probabilities are those of the training objective. {calibration['note']}"
    before, after = (calibration["test"][side] for side in ("before", "after"))
    return (
        "The probabilities are calibrated: the logits were divided by "
        f"{calibration['temperature']:.4f}, fitted on the validation split, and every form has "
        "that in its head. On the test split the expected calibration error was "
        f"{before['ece']:.2%} before and is {after['ece']:.2%} now, the negative log-likelihood "
        f"was {before['nll']:.4f} and is {after['nll']:.4f}."
    )


def check_run_name(name: str) -> None:
    """Refuse names that could leave the runs folder.

    Raises:
        ValueError: `name` is not 1-100 letters, digits, dots, dashes, underscores.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"name: expected 1 to 100 letters, digits, '.', '_' or '-', starting with a "
            f"letter or digit, found {name!r}."
        )


def read_versions(*libraries: str) -> dict[str, str]:
    """Return Python's version and those of the installed libraries named."""
    return {"python": platform.python_version()} | {name: version(name) for name in libraries}


def write_run(
    partial: Path,
    target: Path,
    *,
    model: ModelConfig,
    training: Mapping[str, Any],
    metrics: Mapping[str, Mapping[str, float]],
    data: Mapping[str, Any],
    labels: Sequence[str],
    max_tokens: int,
    versions: Mapping[str, str],
    seed: int,
    history: Mapping[str, Sequence[float]],
    accounting: Mapping[str, Any] | None = None,
    calibration: Mapping[str, Any] | None = None,
) -> Run:
    """Complete a partial run folder and publish it under its name in one rename.

    Args:
        partial: Folder beside `target` that already holds `model.keras`, `tokenizer.model`,
            `test_split.jsonl`, `logs/` and, for a word table, `words.txt`.
        target: The run's final folder; must not exist.
        model: See `Run`.
        training: See `Run`.
        metrics: See `Run`.
        data: See `Run`.
        labels: See `Run`.
        max_tokens: See `Run`.
        versions: See `Run`.
        seed: See `Run`.
        history: Epoch curves, one list a metric.
        accounting: See `Run`.
        calibration: See `Run`.

    Returns:
        The run, read back from its final place.

    Raises:
        ValueError: The name is unsafe.
        RunError: A file is missing from `partial`, or `target` exists.
    """
    check_run_name(target.name)
    for name in ("model.keras", "tokenizer.model", "test_split.jsonl"):
        if not (partial / name).is_file():
            raise RunError(f"{partial}: expected {name} before the run is published, found none.")
    if target.exists():
        raise RunError(f"{target}: the run exists. Choose another --name or pass --force.")
    write_json(partial / "labels.json", list(labels))
    write_json(partial / "history.json", {key: list(values) for key, values in history.items()})
    write_json(
        partial / "run.json",
        {
            "schema_version": RUN_SCHEMA_VERSION,
            "model": model.to_json(),
            "training": dict(training),
            "metrics": {split: dict(values) for split, values in metrics.items()},
            "data": dict(data),
            "max_tokens": max_tokens,
            "versions": dict(versions),
            "seed": seed,
            "accounting": dict(accounting or {}),
            "calibration": dict(calibration or {}),
        },
    )
    partial.rename(target)
    write_whole(target.parent / LATEST_FILE, target.name + "\n")
    return read_run(target)


def read_json(path: Path) -> Any:
    """Read a JSON file of a run folder, of bounded size.

    Raises:
        RunError: It is missing, unreadable, too large, or not JSON.
    """
    return read_bounded_json(
        path,
        error=RunError,
        finished="a finished run. Train one with `make train`.",
        again="Train again.",
    )


def read_run(folder: Path) -> Run:
    """Read and check a run folder.

    Args:
        folder: A folder that `write_run` published.

    Returns:
        The run. No model is loaded.

    Raises:
        RunError: The folder is missing, incomplete, damaged, or of a newer schema.
    """
    fields = read_json(folder / "run.json")
    version = fields.get("schema_version") if isinstance(fields, dict) else None
    if not isinstance(version, int) or not 1 <= version <= RUN_SCHEMA_VERSION:
        raise RunError(
            f"{folder}/run.json: expected schema_version 1 to {RUN_SCHEMA_VERSION}, "
            f"found {version!r}. Upgrade gatetable or train again."
        )
    labels = read_json(folder / "labels.json")
    try:
        run = Run(
            folder=folder,
            name=folder.resolve().name,
            model=ModelConfig.from_json(fields["model"]),
            training=fields["training"],
            metrics=fields["metrics"],
            data=fields["data"],
            labels=tuple(str(label) for label in labels),
            max_tokens=int(fields["max_tokens"]),
            versions=fields["versions"],
            seed=int(fields["seed"]),
            accounting=fields.get("accounting", {}),
            calibration=fields.get("calibration", {}),
        )
    except (KeyError, TypeError, ValueError) as err:
        raise RunError(f"{folder}/run.json: {err!r}. Train again with `make train`.") from err
    if len(run.labels) != run.model.num_classes:
        raise RunError(
            f"{folder}/labels.json: expected {run.model.num_classes} labels as in run.json, "
            f"found {len(run.labels)}. Train again with `make train`."
        )
    for path in (run.model_path, run.tokenizer_path, run.test_split_path):
        if not path.is_file():
            raise RunError(f"{path}: no such file. Train again with `make train`.")
    return run


def find_run(runs: Path, name: str | None = None) -> Path:
    """Return the folder of the named run, or of the newest one.

    Raises:
        RunError: There is no such run.
    """
    if name is not None:
        check_run_name(name)
        if not (runs / name / "run.json").is_file():
            known = sorted(path.parent.name for path in runs.glob("[!.]*/run.json"))
            raise RunError(
                f"{runs}: no run named {name!r}; there are: {', '.join(known) or 'none'}."
            )
        return runs / name
    try:
        latest = (runs / LATEST_FILE).read_text(encoding="utf-8").strip()
    except FileNotFoundError as err:
        raise RunError(f"{runs}: no finished run yet. Train one with `make train`.") from err
    return find_run(runs, latest)


def remove_run(folder: Path) -> None:
    """Delete a run folder so that readers see it whole or not at all."""
    doomed = folder.with_name(f".{folder.name}.removed.{os.getpid()}")
    folder.rename(doomed)
    shutil.rmtree(doomed)


def import_tensorflow() -> Any:
    """Import TensorFlow, tensorflow-text and Keras quietly and return TensorFlow.

    On a machine without a GPU their native code writes notes about its absence to stderr,
    whatever the log level; the file descriptor is silenced meanwhile. Errors are raised as ever.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with open(os.devnull, "w") as silence:  # noqa: PTH123  (a device, not a path of ours)
            os.dup2(silence.fileno(), 2)
            import keras  # noqa: F401
            import tensorflow
            import tensorflow_text  # noqa: F401
    finally:
        os.dup2(saved, 2)
        os.close(saved)
    return tensorflow


def load_model(run: Run) -> keras.Model:
    """Load the trained Keras model of a run, our own layers registered.

    Raises:
        RunError: The file is not a loadable Keras model, or not of the described shape.
    """
    import_tensorflow()
    import keras

    import pipeline.model  # noqa: F401  (registers MaskedPooling)

    try:
        model = keras.models.load_model(run.model_path, compile=False, safe_mode=True)
    except (ValueError, OSError, TypeError) as err:
        raise RunError(f"{run.model_path}: expected a Keras model, found {err}.") from err
    if model.output_shape[-1] != run.model.num_classes:
        raise RunError(
            f"{run.model_path}: expected {run.model.num_classes} outputs as in run.json, "
            f"found {model.output_shape[-1]}."
        )
    return model
