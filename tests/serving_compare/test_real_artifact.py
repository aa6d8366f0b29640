"""All five backends with an artifact that export made: the only test here that needs TensorFlow."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

from serving_compare import __main__ as command
from serving_compare.report import format_readme_table
from serving_compare.sampling import CellLimits
from serving_compare.schedule import PROFILES

pytestmark = pytest.mark.slow
SCHEMA_PATH = Path(__file__).parents[2] / "serving_compare" / "schema" / "report.schema.json"


@pytest.fixture
def build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer_model: Path, texts: list[str]
) -> Path:
    """A build folder with one tiny run, exported."""
    from export.publish import export_run
    from pipeline.config import ModelConfig
    from pipeline.model import build_model
    from pipeline.run_folder import write_run

    folder = tmp_path / "build"
    partial = folder / "runs" / ".partial"
    (partial / "logs").mkdir(parents=True)
    config = ModelConfig(vocab_size=64, num_classes=3, embed_dim=5, units=4)
    build_model(config).save(partial / "model.keras")
    (partial / "tokenizer.model").write_bytes(tokenizer_model.read_bytes())
    (partial / "test_split.jsonl").write_text(
        "".join(json.dumps({"text": t, "label": n % 3}) + "\n" for n, t in enumerate(texts))
    )
    scores = {"top_1": 0.3, "top_3": 1.0, "loss": 1.1}
    run = write_run(
        partial,
        folder / "runs" / "tiny-run",
        model=config,
        training={"num_predict": 3},
        metrics={"validation": scores, "test": scores},
        data={"name": "tiny", "fingerprint": "0" * 64},
        labels=("a", "b", "c"),
        max_tokens=32,
        versions={},
        seed=1,
        history={},
    )
    export_run(run.folder, folder / "artifacts")
    monkeypatch.setenv("GATETABLE_BUILD", str(folder))
    monkeypatch.chdir(tmp_path)
    shortest = CellLimits(min_samples=1, min_duration_s=0.0, max_duration_s=0.01, warm_up_s=0.01)
    monkeypatch.setitem(
        PROFILES,
        "quick",
        replace(PROFILES["quick"], rounds=1, slices=1, all_cores=True, limits=shortest),
    )
    return folder


def test_all_backends_agree_and_are_reported(build: Path):
    done = CliRunner().invoke(command.main, ["compare", "--quick", "--output", "all"])
    assert done.exit_code == 0, done.output
    report = json.loads((build / "reports" / "all" / "report.json").read_text())
    jsonschema.validate(report, json.loads(SCHEMA_PATH.read_text()))
    assert [name for name in report["backends"] if name != "lookup_numpy"] == [
        "saved_model",
        "onnx",
        "lookup",
        "tf2onnx",
        "null",
    ]
    real = [entry for name, entry in report["backends"].items() if name != "null"]
    for entry in real:
        assert entry["accuracy"]["rows"] == 120
        assert entry["accuracy"]["top_1"] == real[0]["accuracy"]["top_1"]
        for part in ("golden_ids", "golden_texts", "workload"):
            assert entry["agreement"][part]["max_abs_probability_diff"] <= 1e-5
        assert entry["size"]["ids_bytes"] > 0
    assert "| saved_model µs | onnx µs | lookup µs |" in format_readme_table(report)
