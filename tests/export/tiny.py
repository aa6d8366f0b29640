"""Tiny configs, weights, texts and runs. TensorFlow is imported by `make_keras_model` only."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece

from export.fold import fold_weights
from export.lookup import LookupConfig, Probe, load_lookup, write_lookup
from export.weights import ModelWeights, expected_shapes, take_weights
from pipeline.config import ModelConfig
from pipeline.run_folder import Run, write_run

MAX_TOKENS = 16
LABELS = ("animal", "place", "food", "act", "time")
_WORDS = (
    *("cat", "dog", "small", "domesticated", "feline", "animal", "the", "a", "of", "river"),
    *("stone", "bank", "money", "house", "café", "naïve", "😀", "tree", "한국", "뉴스", "제목"),
)


def make_texts(count: int = 40) -> list[str]:
    """Return `count` texts of 1 to 12 words, Korean and emoji among them."""
    rng = np.random.default_rng(0)
    return ["한국 뉴스 제목", "😀 tree", ""] + [
        " ".join(rng.choice(_WORDS, size=rng.integers(1, 13))) for _ in range(count - 3)
    ]


def train_tokenizer(**options: Any) -> bytes:
    """Return a SentencePiece BPE model trained on the texts, pad 0 and unk 1."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(make_texts() * 2),
        model_writer=model,
        vocab_size=96,
        model_type="bpe",
        pad_id=0,
        unk_id=1,
        bos_id=-1,
        eos_id=-1,
        character_coverage=1.0,
        minloglevel=2,
        **(options or {"normalization_rule_name": "nmt_nfkc"}),
    )
    return model.getvalue()


def make_config(**changes: Any) -> ModelConfig:
    """Return the shape of a tiny model."""
    fields = {"vocab_size": 96, "num_classes": 5, "embed_dim": 7, "units": 6, "layers": 1}
    return ModelConfig(**{**fields, **changes})


def make_arrays(config: ModelConfig, seed: int = 0) -> dict[str, np.ndarray]:
    """Return random weights by Keras path, no bias zero."""
    rng = np.random.default_rng(seed)
    return {
        path: rng.normal(0, 0.5, shape).astype(np.float32)
        for path, shape in expected_shapes(config).items()
    }


def make_weights(config: ModelConfig, seed: int = 0) -> ModelWeights:
    """Return random weights."""
    return take_weights(config, make_arrays(config, seed))


def write_tiny_lookup(folder: Path, config: ModelConfig, tokenizer: bytes) -> None:
    """Write a lookup folder of random weights, its probes being its own answers."""
    content: dict[str, Any] = {
        "config": LookupConfig(
            vocab_size=config.vocab_size,
            embed_dim=config.embed_dim,
            units=config.units,
            num_classes=config.num_classes,
            layers=config.layers,
            bidirectional=config.bidirectional,
            pooling=config.pooling,
            relu=config.relu,
        ),
        "arrays": fold_weights(make_weights(config)),
        "labels": LABELS[: config.num_classes],
        "tokenizer": tokenizer,
        "max_tokens": MAX_TOKENS,
    }
    draft = folder.with_name(f"{folder.name}-draft")
    write_lookup(draft, **content, golden=[Probe("", (1,), (0.0,) * config.num_classes)])
    model = load_lookup(draft, replay_golden=False)
    probes = []
    for text in make_texts(10):
        ids, lengths = model.encode([text])
        row = model.probabilities(ids, lengths)[0]
        probes.append(Probe(text, tuple(ids[0].tolist()), tuple(row.tolist())))
    write_lookup(folder, **content, golden=probes)


def make_keras_model(config: ModelConfig, seed: int = 0) -> Any:
    """Return the Keras model that holds `make_arrays` (slow tests only)."""
    from export.weights import _walk_weights
    from pipeline.model import build_model

    model = build_model(config)
    arrays = make_arrays(config, seed)
    for layer in model.layers:
        for path, weight in _walk_weights(layer, ""):
            if path in arrays:
                weight.assign(arrays[path])
    return model


def write_tiny_run(folder: Path, config: ModelConfig, tokenizer: bytes, **changes: Any) -> Run:
    """Write a run folder around a model file that is already at `folder`/model.keras."""
    partial = folder.with_name(f".{folder.name}")
    folder.rename(partial)
    (partial / "tokenizer.model").write_bytes(tokenizer)
    (partial / "logs").mkdir()
    (partial / "test_split.jsonl").write_text(
        "".join(
            json.dumps({"text": text, "label": row % config.num_classes}, ensure_ascii=False) + "\n"
            for row, text in enumerate(make_texts())
        ),
        encoding="utf-8",
    )
    words = sorted({word for text in make_texts() for word in text.split(" ") if word})
    # Some are left out, so that both ways from text to ids are taken.
    (partial / "words.txt").write_bytes("".join(f"{word}\n" for word in words[::2]).encode())
    fields: dict[str, Any] = {
        "model": config,
        "training": {"num_predict": 3},
        "metrics": {"test": {"top_1": 0.2, "top_3": 0.6, "loss": 1.5}},
        "data": {"name": "tiny", "fingerprint": "0" * 64, "counts": {"kept": 40}},
        "labels": LABELS,
        "max_tokens": MAX_TOKENS,
        "versions": {"keras": "3.15.1"},
        "seed": 1,
        "history": {"loss": [1.5]},
    }
    return write_run(partial, folder, **{**fields, **changes})
