"""Compressed lookup folders through the whole export; exact ones are in test_publish.py."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
from click.testing import CliRunner

from export.__main__ import main
from export.bundle import read_artifact
from export.compression import EXACT_OPTION, NAMED_OPTIONS, Option
from export.difference import AgreementError
from export.fold import fold_weights
from export.golden import encode_texts
from export.lookup import LookupConfig, read_lookup
from export.lookup.values import MAX_INTEGERS
from export.option_cost import load_option
from export.publish import export_run
from export.verify import verify_artifact
from export.weights import ModelWeights
from pipeline.run_folder import Run
from tests.export.tiny import make_weights

pytestmark = pytest.mark.slow

SMALLEST = Option("int8", "int8")


def test_a_compressed_folder_is_published_with_its_bound_and_verified(
    tiny_run: Run, tmp_path: Path, without_oracle: None
) -> None:
    result = export_run(
        tiny_run.folder, tmp_path / "artifacts", option=SMALLEST, max_accuracy_loss=1.0
    )
    manifest = result.artifact.manifest
    assert set(result.latency_us) == {*NAMED_OPTIONS, SMALLEST}
    compression = manifest["compression"]
    assert manifest["provenance"]["options"].items() >= SMALLEST._asdict().items()
    files = read_lookup(result.artifact.lookup_path)
    assert (files.config.table_dtype, files.config.recurrent_dtype) == SMALLEST
    assert files.tolerance == compression["tolerance"] > 1e-5
    backends = manifest["parity"]["backends"]
    assert backends["lookup"]["tolerance"] == files.tolerance
    assert 1e-5 < backends["lookup"]["max_abs_probability_diff"] <= files.tolerance
    assert backends["lookup_float32"]["max_abs_probability_diff"] <= 1e-5
    card = result.artifact.model_card_path.read_text()
    assert "`lookup/` is compressed (table int8, recurrent int8)" in card
    assert "\n| int8 / int8 | " in card
    (found,) = (b for b in verify_artifact(result.artifact.folder).backends if b.name == "lookup")
    assert 1e-5 < found.max_abs_probability_diff <= files.tolerance


def test_a_wide_bound_hides_no_wrong_table(
    tiny_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_oracle: None
) -> None:
    def perturb(weights: ModelWeights, *rest: Any) -> Any:
        head_bias = weights.head_bias.copy()
        head_bias[0] += 1e-3
        return fold_weights(dataclasses.replace(weights, head_bias=head_bias), *rest)

    monkeypatch.setattr("export.forms.fold_weights", perturb)
    with pytest.raises(
        AgreementError, match=r"lookup_float32: expected probabilities within 1e-05 of Keras's, f"
    ):
        export_run(tiny_run.folder, tmp_path / "artifacts", option=SMALLEST, max_accuracy_loss=1.0)


def label_as_predicted(run: Run) -> None:
    """Give the texts of the test split the labels that the exact tables give them."""
    model = run.model
    config = LookupConfig(
        vocab_size=model.vocab_size,
        embed_dim=model.embed_dim,
        units=model.units,
        num_classes=model.num_classes,
    )
    exact = load_option(fold_weights(make_weights(model)), config, EXACT_OPTION)
    texts = [text for text, _ in run.read_test_split()]
    processor = sentencepiece.SentencePieceProcessor(model_file=str(run.tokenizer_path))
    rows = encode_texts(processor, texts, run.max_tokens)
    lines = [
        json.dumps({"text": text, "label": int(exact.logits([row], [len(row)]).argmax())})
        for text, row in zip(texts, rows, strict=True)
    ]
    run.test_split_path.write_text("\n".join(lines) + "\n")


def test_an_option_above_its_budget_publishes_nothing(
    make_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_oracle: None
) -> None:
    run = make_run(tmp_path / "runs" / "one")
    label_as_predicted(run)
    # Three values a weight are worse than any real option.
    monkeypatch.setitem(MAX_INTEGERS, "int8", 1)
    arguments = ("export", "--build", str(tmp_path), "--lookup-recurrent", "int8")
    result = CliRunner().invoke(main, [*arguments, "--lookup-table", "int8"])
    assert result.exit_code == 1, result.output
    assert "error: lookup with table int8, recurrent int8: expected accuracy on" in result.stderr
    assert "to fall by at most 0.002, found top-1 from 100.00% to " in result.stderr
    assert "Within the budget: table float16; table int16; recurrent int16." in result.stderr
    assert [path.name for path in (tmp_path / "artifacts" / "tiny").iterdir()] == [".lock"]


def test_an_exact_export_measures_the_options_too(published: Path) -> None:
    compression = read_artifact(published).manifest["compression"]
    assert (compression["table_dtype"], compression["recurrent_dtype"]) == EXACT_OPTION
    assert compression["tolerance"] == 1e-5
    assert len(compression["options"]) == len(NAMED_OPTIONS)
    logit_diffs = [option["max_abs_logit_diff"] for option in compression["options"]]
    assert logit_diffs[0] == 0 < min(logit_diffs[1:])
    assert np.isfinite(logit_diffs).all()
