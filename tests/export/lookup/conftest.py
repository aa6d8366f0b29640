"""A tiny model in raw Keras form, its plain-Python answer, and its lookup folder."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.compress import compress_arrays
from export.lookup import LookupConfig, LookupFiles, Probe, write_lookup
from export.lookup.word_arrays import WordArrays
from tests.export.lookup.c_programs import DRIVER, KERNEL, WARNINGS, compile_c, run_c

MAX_TOKENS = 16


@dataclass(frozen=True, kw_only=True)
class RawModel:
    """Weights as Keras names them, float32: gate order z, r, h; bias (2, 3H)."""

    config: LookupConfig
    embedding: np.ndarray
    layers: list[list[dict[str, np.ndarray]]]
    head_kernel: np.ndarray
    head_bias: np.ndarray

    def fold(self) -> dict[str, np.ndarray]:
        """Return the lookup folder's arrays, computed in float64 and rounded once."""
        arrays = {"head_kernel": self.head_kernel, "head_bias": self.head_bias}
        units = self.config.units
        for index, layer in enumerate(self.layers):
            for suffix, gru in zip(("", "_backward"), layer, strict=False):
                prefix = f"layer_{index}_" if index else ""
                bias = gru["bias"].astype(np.float64)
                folded = bias[0] + np.concatenate((bias[1, : 2 * units], np.zeros(units)))
                if index:
                    arrays[f"{prefix}kernel{suffix}"] = gru["kernel"]
                    arrays[f"{prefix}bias{suffix}"] = folded.astype(np.float32)
                else:
                    table = self.embedding.astype(np.float64) @ gru["kernel"] + folded
                    arrays[f"gate_table{suffix}"] = table.astype(np.float32)
                arrays[f"{prefix}recurrent_kernel{suffix}"] = gru["recurrent_kernel"]
                arrays[f"{prefix}candidate_bias{suffix}"] = gru["bias"][1, 2 * units :]
        return arrays

    def probabilities(self, tokens: Sequence[int]) -> np.ndarray:
        """Return the probabilities (C,) of one text, float64, from the equations."""
        sequence = [self.embedding[token].astype(np.float64) for token in tokens or [1]]
        last = []
        for layer in self.layers:
            runs = [_run_gru(layer[0], sequence)]
            if len(layer) == 2:
                runs.append(_run_gru(layer[1], sequence[::-1])[::-1])
            last = [runs[0][-1], *(run[0] for run in runs[1:])]
            sequence = [np.concatenate(states) for states in zip(*runs, strict=True)]
        if self.config.pooling == "last":
            pooled = np.concatenate(last)
        elif self.config.pooling == "max":
            pooled = np.max(sequence, axis=0)
        else:
            pooled = np.mean(sequence, axis=0)
        if self.config.relu:
            pooled = np.maximum(pooled, 0)
        logits = pooled @ self.head_kernel.astype(np.float64) + self.head_bias
        exponents = np.exp(logits - logits.max())
        return exponents / exponents.sum()


def _run_gru(gru: dict[str, np.ndarray], sequence: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the state after each step: Keras's GRU equations, reset_after=True."""
    units = len(gru["recurrent_kernel"])
    state = np.zeros(units)
    states = []
    for inputs in sequence:
        x = inputs @ gru["kernel"].astype(np.float64) + gru["bias"][0]
        y = state @ gru["recurrent_kernel"].astype(np.float64) + gru["bias"][1]
        update = 1 / (1 + np.exp(-(x[:units] + y[:units])))
        reset = 1 / (1 + np.exp(-(x[units : 2 * units] + y[units : 2 * units])))
        candidate = np.tanh(x[2 * units :] + reset * y[2 * units :])
        state = update * state + (1 - update) * candidate
        states.append(state)
    return states


def make_raw_model(seed: int = 0, **changes: Any) -> RawModel:
    """Return a random model; `changes` are fields of its config."""
    fields = {"vocab_size": 30, "embed_dim": 5, "units": 6, "num_classes": 4} | changes
    config = LookupConfig(**fields)
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(0, 0.7, shape).astype(np.float32)

    embedding = normal(config.vocab_size, config.embed_dim)
    embedding[0] = embedding[1]
    layers = []
    width = config.embed_dim
    for _ in range(config.layers):
        layers.append(
            [
                {
                    "kernel": normal(width, 3 * config.units),
                    "recurrent_kernel": normal(config.units, 3 * config.units),
                    "bias": normal(2, 3 * config.units),
                }
                for _ in range(2 if config.bidirectional else 1)
            ]
        )
        width = config.pooled_dim
    return RawModel(
        config=config,
        embedding=embedding,
        layers=layers,
        head_kernel=normal(config.pooled_dim, config.num_classes),
        head_bias=normal(config.num_classes),
    )


def make_content(model: RawModel, tokenizer: bytes = b"no tokenizer") -> dict[str, Any]:
    """Return the arguments of `write_lookup` for a model."""
    texts = {"": [1], "a": [3], "b c": [2, 5, 1, 7]}
    return {
        "config": model.config,
        "arrays": model.fold(),
        "labels": [f"label {index}" for index in range(model.config.num_classes)],
        "tokenizer": tokenizer,
        "golden": [
            Probe(text, tuple(ids), tuple(model.probabilities(ids).tolist()))
            for text, ids in texts.items()
        ],
        "max_tokens": MAX_TOKENS,
    }


def make_compressed(model: RawModel, table_dtype: str, recurrent_dtype: str) -> dict[str, Any]:
    """Return config and arrays of a model with the given options, to replace a content's own."""
    options = {"table_dtype": table_dtype, "recurrent_dtype": recurrent_dtype}
    config = dataclasses.replace(model.config, **options)
    return {"config": config, "arrays": compress_arrays(model.fold(), config)}


def make_files(
    config: LookupConfig, arrays: dict[str, np.ndarray], words: WordArrays | None = None
) -> LookupFiles:
    """Return the content of a folder that was never written, for engines alone."""
    return LookupFiles(
        folder=Path("nowhere"),
        config=config,
        max_tokens=MAX_TOKENS,
        arrays=arrays,
        labels=tuple(f"label {index}" for index in range(config.num_classes)),
        tokenizer=b"",
        golden=(),
        words=words,
    )


@pytest.fixture(scope="session")
def lookup_files() -> Callable[..., LookupFiles]:
    """`make_files`, for tests of an engine."""
    return make_files


@pytest.fixture
def compressed() -> Callable[..., dict[str, Any]]:
    """`make_compressed`, for tests that choose their own options."""
    return make_compressed


@pytest.fixture
def raw_model() -> Callable[..., RawModel]:
    """`make_raw_model`, for tests that choose their own shape."""
    return make_raw_model


@pytest.fixture(scope="session")
def raw_model_session() -> Callable[..., RawModel]:
    """`make_raw_model`, for fixtures that serve many tests."""
    return make_raw_model


@pytest.fixture(scope="session")
def content_session() -> Callable[..., dict[str, Any]]:
    """`make_content`, for fixtures that serve many tests."""
    return make_content


def make_words(entries: dict[bytes, list[int]]) -> WordArrays:
    """Return the word table of words and their ids."""
    ordered = sorted(entries.items())
    return WordArrays(
        word_bytes=np.frombuffer(b"".join(word for word, _ in ordered), np.uint8),
        word_ends=np.cumsum([len(word) for word, _ in ordered]).astype(np.uint32),
        word_ids=np.array([token for _, ids in ordered for token in ids], np.int32),
        word_id_ends=np.cumsum([len(ids) for _, ids in ordered]).astype(np.uint32),
    )


@pytest.fixture(scope="session")
def words() -> Callable[[dict[bytes, list[int]]], WordArrays]:
    """`make_words`, for tests that need a word table."""
    return make_words


@pytest.fixture
def content() -> Callable[..., dict[str, Any]]:
    """`make_content`, for tests that write a folder of their own."""
    return make_content


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound lookup folder: bidirectional, two layers, without a real tokenizer."""
    path = tmp_path / "lookup"
    write_lookup(path, **make_content(make_raw_model(layers=2)))
    return path


@pytest.fixture(scope="session")
def gatetable_object(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """gatetable.c compiled, to link C programs with."""
    target = tmp_path_factory.mktemp("gatetable") / "gatetable.o"
    return compile_c(target, KERNEL / "gatetable.c", options=("-std=c11", "-c"))


@pytest.fixture(scope="session")
def read_in_c(
    tmp_path_factory: pytest.TempPathFactory, gatetable_object: Path
) -> Callable[[Path], tuple[str, str]]:
    """Open a folder in C and, if it opens, ask it everything; returns status and message."""
    driver = tmp_path_factory.mktemp("gatetable") / "open_folders"
    compile_c(driver, DRIVER, gatetable_object, options=WARNINGS)

    def read(folder: Path) -> tuple[str, str]:
        done = run_c(driver, text=f"{folder}\n")
        assert (done.returncode, done.stderr) == (0, "")
        status, message = done.stdout.rstrip("\n").split(" ", 1)
        return status, message

    return read


@pytest.fixture
def everything(tmp_path: Path) -> Path:
    """A sound folder with all there is: two layers and directions, integers, a word table."""
    path = tmp_path / "everything"
    model = make_raw_model(layers=2)
    stored = make_compressed(model, "int16", "int8") | {"tolerance": 0.5}
    table = make_words({b"a": [3], b"cat": [2, 5], "é".encode(): []})
    write_lookup(path, **(make_content(model) | stored), words=table)
    return path


@pytest.fixture(scope="session")
def sealed_manifest(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a small manifest in which every key has a value that may be another."""
    path = tmp_path_factory.mktemp("sealed") / "lookup"
    model = make_raw_model(bidirectional=False)
    stored = make_compressed(model, "int8", "float32") | {"tolerance": 0.5}
    write_lookup(path, **(make_content(model) | stored))
    return (path / "manifest.json").read_bytes()


@pytest.fixture(scope="session")
def tokenizer() -> bytes:
    """A small real SentencePiece BPE model."""
    import sentencepiece

    sentences = ["the cat sat on the mat", "a dog ate the cat food", "고양이 한 마리"] * 20
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=model,
        model_type="bpe",
        vocab_size=48,
        pad_id=0,
        unk_id=1,
        bos_id=-1,
        eos_id=-1,
        minloglevel=2,
    )
    return model.getvalue()
