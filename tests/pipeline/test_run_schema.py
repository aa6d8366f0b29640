from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import pipeline

SCHEMA = jsonschema.Draft202012Validator(
    json.loads((Path(pipeline.__file__).parent / "schema" / "run.schema.json").read_text())
)
FIRST: dict[str, Any] = {
    "schema_version": 1,
    "model": {
        **{"vocab_size": 15000, "num_classes": 45, "embed_dim": 128, "units": 96, "layers": 1},
        **{"bidirectional": True, "pooling": "max", "relu": True},
        **{"embedding_dropout": 0.25, "head_dropout": 0.5},
    },
    "training": {"num_predict": 3, "jit_compile": False, "seed": 1},
    "metrics": {
        "validation": {"top_1": 0.79, "top_3": 0.91, "loss": 0.78},
        "test": {"top_1": 0.8, "top_3": 0.92, "loss": 0.77},
    },
    "data": {"name": "wordnet31", "fingerprint": "0" * 64, "train": 9, "validation": 1, "test": 1},
    "max_tokens": 256,
    "versions": {"python": "3.11.7", "keras": "3.15.1"},
    "seed": 1,
}
"""`run.json` as the first version wrote it: no accounting, no calibration."""
SIDES = {"before": {"ece": 0.05, "nll": 0.78}, "after": {"ece": 0.01, "nll": 0.76}}
YOUNG: dict[str, Any] = {
    "accounting": {
        **{"seconds": {"train": 1.5}, "examples": 9, "examples_per_s": 6.0, "peak_bytes": 1},
        **{"energy_joules": None, "cell": "hoisted", "compute": {"xla": False}},
    },
    "calibration": {"temperature": 0.8, "note": None, "validation": SIDES, "test": SIDES},
}


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA.schema)


@pytest.mark.parametrize("young", [{}, {"accounting": {}, "calibration": {}}, YOUNG])
def test_runs_of_every_age_are_valid(young: dict[str, Any]) -> None:
    SCHEMA.validate(FIRST | young)


@pytest.mark.parametrize("key", sorted(FIRST))
def test_every_first_key_is_required_and_typed(key: str) -> None:
    assert not SCHEMA.is_valid({name: value for name, value in FIRST.items() if name != key})
    assert not SCHEMA.is_valid(FIRST | {key: None})


@pytest.mark.parametrize(
    "wrong",
    [
        {"schema_version": 2},
        {"schema_version": "1"},
        {"max_tokens": 0},
        {"model": FIRST["model"] | {"unknown": 1}},
        {"model": FIRST["model"] | {"pooling": "sum"}},
        {"training": FIRST["training"] | {"num_predict": 0}},
        {"metrics": {"validation": FIRST["metrics"]["validation"]}},
        {"metrics": {"test": {"top_1": 1.1, "loss": 0.1}}},
        {"versions": {"keras": 3}},
        {"data": {"name": "wordnet31"}},
        {"accounting": YOUNG["accounting"] | {"seconds": {"train": "long"}}},
        {"accounting": {"examples": 9}},
        {"calibration": YOUNG["calibration"] | {"temperature": 0}},
        {"calibration": {"temperature": 1.0, "note": None}},
    ],
)
def test_a_wrong_run_is_invalid(wrong: dict[str, Any]) -> None:
    assert not SCHEMA.is_valid(FIRST | YOUNG | wrong)
