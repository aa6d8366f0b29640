"""`evaluation.json`: read as it was written, and as its schema says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from pipeline.evaluation.fields import RunEvaluation
from pipeline.run_folder import RunError

SCHEMA = json.loads(
    (Path(__file__).parents[3] / "pipeline" / "schema" / "evaluation.schema.json").read_text()
)


def test_an_evaluation_survives_json_and_keeps_to_the_schema(evaluation: RunEvaluation) -> None:
    fields = json.loads(json.dumps(evaluation.to_json(), allow_nan=False))
    jsonschema.validate(fields, SCHEMA)
    read = RunEvaluation.from_json(fields, place="here")
    assert read == evaluation
    assert list(read.splits) == ["validation", "test"]


def test_schema_is_one_and_knows_every_field(evaluation: RunEvaluation) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    fields = evaluation.to_json()
    assert set(fields) == set(SCHEMA["properties"])
    split = SCHEMA["$defs"]["split"]
    assert set(fields["splits"]["test"]) == set(split["properties"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**fields, "more": 1}, SCHEMA)


def test_what_derives_from_the_counts_stands_there_too(evaluation: RunEvaluation) -> None:
    test = evaluation.to_json()["splits"]["test"]
    assert test["macro_f1"] == evaluation.splits["test"].macro_f1
    assert test["balanced_accuracy"] == evaluation.splits["test"].balanced_accuracy
    (cat, *_) = test["classes"]
    assert cat["precision"] == cat["hits"] / cat["predicted"]


@pytest.mark.parametrize(
    "fields", [None, [], {}, {"schema_version": 2}, {"schema_version": 1, "splits": {"test": 1}}]
)
def test_other_fields_are_refused(fields: Any) -> None:
    with pytest.raises(
        RunError, match="here: expected an evaluation of schema_version 1, found .*--force`"
    ):
        RunEvaluation.from_json(fields, place="here")
