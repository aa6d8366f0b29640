"""A tiny artifact without TensorFlow, synthetic results with known answers, real texts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece

from export.bundle import Artifact, publish_artifact, read_artifact
from export.lookup import LookupConfig, Probe, array_specs, load_lookup, write_lookup
from serving_compare.results import Results

VOCAB, UNITS, CLASSES, MAX_TOKENS = 64, 4, 3, 32
WORDS = (
    *("red", "green", "blue", "small", "large", "cat", "dog", "bird", "house"),
    *("tree", "river", "stone", "old", "new", "fast", "slow"),
)


def make_texts(count: int, seed: int = 0) -> list[str]:
    """Distinct lengths from one word to eight, seeded."""
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, size=int(random.integers(1, 9)))) for _ in range(count)]


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return make_texts(120)


@pytest.fixture(scope="session")
def tokenizer_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    prefix = tmp_path_factory.mktemp("tokenizer") / "tokenizer"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(make_texts(400, seed=1)),
        model_prefix=str(prefix),
        model_type="bpe",
        vocab_size=VOCAB,
        pad_id=0,
        unk_id=1,
        bos_id=-1,
        eos_id=-1,
        minloglevel=2,
    )
    return prefix.with_suffix(".model")


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory, tokenizer_model: Path) -> Artifact:
    """Real lookup folder and probes; the other backends' files are there but are no models."""
    root = tmp_path_factory.mktemp("build")
    partial = root / "partial"
    partial.mkdir()
    config = LookupConfig(vocab_size=VOCAB, embed_dim=4, units=UNITS, num_classes=CLASSES)
    random = np.random.default_rng(0)
    arrays = {
        name: random.normal(0, 0.7, spec.shape).astype(np.float32)
        for name, spec in array_specs(config).items()
    }
    for name in arrays:
        if name.startswith("gate_table"):
            arrays[name][0] = arrays[name][1]
    processor = sentencepiece.SentencePieceProcessor(model_file=str(tokenizer_model))
    probe_texts = ["", *make_texts(12, seed=2)]
    rows = [processor.encode(text)[:MAX_TOKENS] or [1] for text in probe_texts]

    def write(folder: Path, answers: np.ndarray) -> None:
        write_lookup(
            folder,
            config=config,
            arrays=arrays,
            labels=["a", "b", "c"],
            tokenizer=tokenizer_model.read_bytes(),
            golden=[
                Probe(text, tuple(row), tuple(float(p) for p in answer))
                for text, row, answer in zip(probe_texts, rows, answers, strict=True)
            ],
            max_tokens=MAX_TOKENS,
        )

    draft = root / "draft"
    write(draft, np.full((len(rows), CLASSES), 1 / CLASSES, np.float32))
    model = load_lookup(draft, replay_golden=False)
    answers = np.concatenate(
        [model.probabilities(np.array([row]), np.array([len(row)])) for row in rows]
    )
    write(partial / "lookup", answers)
    for name in ("saved_model/saved_model.pb", "saved_model_text/saved_model.pb", "model.onnx"):
        (partial / name).parent.mkdir(exist_ok=True)
        (partial / name).write_bytes(b"not a model")
    (partial / "labels.json").write_text(json.dumps(["a", "b", "c"]))
    (partial / "tokenizer.model").write_bytes(tokenizer_model.read_bytes())
    (partial / "golden.jsonl").write_bytes((partial / "lookup/golden.jsonl").read_bytes())
    (partial / "MODEL_CARD.md").write_text("card\n")
    folder = publish_artifact(
        partial,
        root / "artifacts" / "tiny",
        {
            "name": "tiny",
            "model": {
                "vocab_size": VOCAB,
                "num_classes": CLASSES,
                "embed_dim": 4,
                "units": UNITS,
                "bidirectional": config.bidirectional,
                "layers": 1,
                "pooling": config.pooling,
                "relu": config.relu,
            },
            "axes": {"V": VOCAB, "E": 4, "H": UNITS, "C": CLASSES},
            "pooling": config.pooling,
            "max_tokens": MAX_TOKENS,
            "labels_sha256": "0" * 64,
            "tokenizer_sha256": "0" * 64,
            "metrics": {},
            "parity": {},
            "compression": {"table_dtype": "float32", "recurrent_dtype": "float32"},
            "word_table": {
                "words": 0,
                "refusal": "made without words",
                "checked_texts": 0,
                "test_word_share": 0.0,
                "test_text_share": 0.0,
            },
            "provenance": {"run": "tiny-run"},
        },
    )
    return read_artifact(folder)


@pytest.fixture
def split_file(tmp_path: Path, texts: list[str]) -> Path:
    path = tmp_path / "split.jsonl"
    path.write_text(
        "".join(
            json.dumps({"text": text, "label": number % CLASSES}) + "\n"
            for number, text in enumerate(texts)
        )
    )
    return path


CELLS = ("tokens_1", "tokens_10", "title_text_20", "title_ids_20", "batch_32")

MakeResults = Callable[..., Results]


@pytest.fixture(scope="session")
def make_results() -> MakeResults:
    """Results whose median in every round is what the caller says, in ns; null takes 100 ns."""

    def make(
        medians_ns: Mapping[str, list[int]] | None = None,
        *,
        name: str = "made-up",
        samples_each: int = 101,
        inner_loops: int = 1,
        **changes: Any,
    ) -> Results:
        chosen = dict(
            medians_ns
            or {
                "saved_model": [1_000_000 + 1000 * r for r in range(6)],
                "onnx": [40_000 + 100 * r for r in range(6)],
                "lookup": [50_000 + 100 * r for r in range(6)],
            }
        )
        rounds = len(next(iter(chosen.values())))
        chosen["null"] = [100] * rounds
        # Symmetric about 0, so the median is the round's own.
        offsets = np.arange(samples_each) - samples_each // 2
        processes, samples = [], {}
        for backend, medians in chosen.items():
            for number, median in enumerate(medians):
                processes.append(
                    {
                        "round": number,
                        "backend": backend,
                        "position": 0,
                        "stages_ns": {
                            "start": 20_000_000,
                            "import": median * 1000,
                            "load": 5_000_000,
                            "first": 1_000_000,
                        },
                        "memory": {"peak_bytes": 30_000_000, "private_bytes": 20_000_000},
                        "timer_cost_ns": 50,
                        "cells": {
                            cell: {"inner_loops": inner_loops, "warm_up_calls": 64, "is_warm": True}
                            for cell in CELLS
                        },
                    }
                )
                for cell in CELLS:
                    samples[number, backend, cell] = (median + offsets).clip(0) * inner_loops
        agreement = {"rows": 13, "max_abs_probability_diff": 1e-7, "top_k_disagreements": 0}
        accuracy = {"top_1": 0.8, "top_k": 0.92, "k": 3, "rows": 1000, "single_rows": 1000}
        real = [backend for backend in chosen if backend != "null"]
        fields: dict[str, Any] = {
            "name": name,
            "created_utc": "2026-01-01T12:00:00+00:00",
            "settings": {
                "profile": {
                    "name": "default",
                    "rounds": 6,
                    "limits": {
                        "min_samples": 1,
                        "min_duration_s": 0.1,
                        "max_duration_s": 1.0,
                        "warm_up_s": 0.1,
                    },
                    "answer_budget_s": 1.0,
                    "max_duration_s": 10.0,
                    "child_timeout_s": 10.0,
                },
                "seed": 1,
                "tolerance": 1e-5,
                "k": 3,
            },
            "artifact": {
                "name": "tiny",
                "version": 1,
                "manifest_sha256": "0" * 64,
                "max_tokens": 32,
                "model": {
                    "vocab_size": 64,
                    "num_classes": 3,
                    "embed_dim": 4,
                    "units": 4,
                    "layers": 1,
                    "bidirectional": True,
                    "pooling": "max",
                    "relu": True,
                },
            },
            "machine": {
                "cpu": "Made-up CPU",
                "cpu_stepping": "x/1/2/3",
                "architecture": "x86_64",
                "flags": ["avx2"],
                "hypervisor": True,
                "cores": 2,
                "affinity": [0, 1],
                "governor": None,
                "boost": None,
                "smt": None,
                "caches": {"L2 Unified": "512K"},
                "memory_kib": 1024,
                "cgroup_quota_cores": None,
                "load_average": [0.1, 0.1, 0.1],
                "system": "Linux",
                "kernel": "6.1",
            },
            "versions": {"python": "3.11.7", "numpy": "2.4.6"},
            "workload": {
                "sha256": "1" * 64,
                "notes": dict.fromkeys(CELLS, "made up"),
                "texts": 120,
                "source": "the file given",
            },
            "backends": list(chosen),
            "agreement": {
                backend: dict.fromkeys(("golden_ids", "golden_texts", "workload"), agreement)
                for backend in real
            },
            "accuracy": dict.fromkeys(real, accuracy),
            "sizes": {
                "saved_model": {"ids": 8_000_000, "text": 9_000_000},
                "onnx": {"ids": 8_000_000, "text": 8_500_000},
                "lookup": {"ids": 47_000_000, "text": 47_000_000},
                "null": {"ids": 0, "text": 0},
            },
            "processes": processes,
            "samples": samples,
        }
        return Results(**(fields | changes))

    return make


@pytest.fixture
def http_section() -> dict[str, Any]:
    """A report's `http` section in which lookup leads, and the server without a model leads it."""
    return _make_http_section()


@pytest.fixture(scope="session")
def make_http_section() -> Callable[[], dict[str, Any]]:
    """What makes such a section, for fixtures that outlive a test."""
    return _make_http_section


def _make_http_section() -> dict[str, Any]:
    rates = {"saved_model": 400.0, "onnx": 1600.0, "lookup": 2400.0, "null": 2800.0}
    single = {"saved_model": 1950.0, "onnx": 450.0, "lookup": 300.0, "null": 260.0}
    inside = {"saved_model": 1800.0, "onnx": 180.0, "lookup": 40.0, "null": 0.1}

    def probe(rate: float, p99_us: float | None, *, valid: bool = True) -> dict[str, Any]:
        return {
            "rate_per_s": rate,
            "achieved_per_s": 0.99 * rate,
            "p50_us": 500.0,
            "p99_us": p99_us,
            "service_p50_us": 450.0,
            "service_p99_us": p99_us and 0.5 * p99_us,
            "refused": 0,
            "errors": 0,
            "n": int(10 * rate),
            "lag_p99_us": 60.0 if valid else 1500.0,
            "valid": valid,
        }

    backends = {
        name: {
            "single_stream": {
                "median_us": single[name],
                "ci95": [0.98 * single[name], 1.02 * single[name]],
                "p99_us": 1.5 * single[name],
                "n": 4000,
                "in_process_median_us": inside[name],
            },
            "offline": {
                "sequences_per_s": 10 * rates[name],
                "ci95": [9.8 * rates[name], 10.2 * rates[name]],
                "batch_size": 64,
                "n": 300,
            },
            "server": {
                "max_rate_per_s": rates[name],
                "ci95": [0.95 * rates[name], 1.05 * rates[name]],
                "rounds": 6,
                "limited_by": "slo",
            },
            "curve": [
                probe(rates[name] / 4, 2_000.0),
                probe(rates[name] / 2, 3_500.0),
                probe(rates[name], 9_500.0),
                probe(1.2 * rates[name], 90_000.0),
                probe(1.1 * rates[name], 30_000.0, valid=False),
                probe(20.0, None),
            ],
            "outside": {
                "tool": "wrk 4.1.0",
                "connections": 1,
                "requests_per_s": 1.1 * rates[name],
                "p50_us": single[name],
                "p99_us": 2 * single[name],
                "ours_requests_per_s": 1.089 * rates[name],
                "ours_p50_us": 1.01 * single[name],
            },
            "http_share": {"single_stream": 1 - inside[name] / single[name], "note": "made up"},
        }
        for name in rates
    }
    names = [name for name in rates if name != "null"]
    return {
        "slo_p99_ms": 10.0,
        "workers": 1,
        "server_cores": [1],
        "generator_cores": [0],
        "seed": 1,
        "duration_s": 10.0,
        "backends": backends,
        "ratios": [
            {
                "first": first,
                "second": second,
                "of": "max_rate_per_s",
                "ratio": rates[first] / rates[second],
                "ci95": [0.95 * rates[first] / rates[second], 1.05 * rates[first] / rates[second]],
                "winner": second,
            }
            for number, first in enumerate(names)
            for second in names[number + 1 :]
        ],
    }
