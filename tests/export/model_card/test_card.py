from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from export.bundle import read_artifact
from export.model_card import FORM_PATHS, describe_word_table, read_evidence
from export.model_card.card import format_model_card, write_model_card
from export.publish import export_run, hash_run
from pipeline.run_folder import Run, RunError, describe_calibration
from tests.export.model_card.samples import (
    HOSTILE,
    make_artifact,
    make_fields,
    make_run,
    write_evidence,
)

NODE_MODULES = Path(__file__).parents[3] / "docs" / "loaders" / "node" / "node_modules"
SECTIONS = [
    "## Model",
    "## Intended use",
    "## Limits",
    "## Data",
    "## Results on the test split (400 texts)",
    "### Every form beside Keras",
    "## What the probabilities mean",
    "## Cost of an answer",
    "## Compressed lookup tables",
    "## Word table",
    "## Licences",
    "## Use",
    "### Lookup tables",
    "### ONNX",
    "### TensorFlow",
    "## Files",
]


def format_card(run: Run, folder: Path) -> str:
    return format_model_card(run, make_fields(run), make_artifact(folder), read_evidence(run))


def list_titles(card: str) -> list[str]:
    outside = re.sub(r"^```.*?^```", "", card, flags=re.DOTALL | re.MULTILINE)
    return [line for line in outside.splitlines() if line.startswith("##")]


def test_a_card_has_every_section_with_and_without_evidence(tmp_path: Path) -> None:
    old, new = make_run(tmp_path / "old"), make_run(tmp_path / "new")
    write_evidence(new)
    card = format_card(new, tmp_path / "1")
    assert list_titles(card) == SECTIONS
    assert "not kept by this run" not in card
    card = format_card(old, tmp_path / "2")
    assert list_titles(card) == SECTIONS
    assert card.count("not kept by this run") == 2


def test_labels_and_texts_of_the_data_break_out_of_nothing(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", labels=HOSTILE)
    write_evidence(run)
    run.test_split_path.write_text(
        run.test_split_path.read_text().replace('"text 0"', '"```\\n# <img src=x> \\u202e"')
    )
    card = format_card(run, tmp_path / "artifact")
    assert list_titles(card) == SECTIONS
    outside = re.sub(r"^```.*?^```", "", card, flags=re.DOTALL | re.MULTILINE)
    assert "<img" not in outside
    assert "\u202e" not in card
    tags = set(re.findall(r"<[^>]*>", re.sub(r"`[^`\n]*`", "", outside)))
    assert {tag.strip("/<>") for tag in tags} == {
        *("code", "details", "summary", "https://www.apache.org/licenses/LICENSE-2.0"),
    }


def test_the_same_run_gives_the_same_bytes_and_no_time_or_machine(tmp_path: Path) -> None:
    cards = []
    for place in ("one", "two"):
        run = make_run(tmp_path / place / "run")
        write_evidence(run)
        folder = make_artifact(tmp_path / f"artifact-{place}")
        write_model_card(run, make_fields(run), folder, read_evidence(run))
        cards.append((folder / "MODEL_CARD.md").read_bytes())
    assert cards[0] == cards[1]
    text = cards[0].decode()
    assert str(tmp_path) not in text
    assert "321" not in text.split("## Files")[0]  # seconds of the training


def test_an_evaluation_of_another_model_makes_no_card(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    write_evidence(run)
    evidence = read_evidence(run)
    assert evidence.evaluation is not None
    other = dataclasses.replace(evidence.evaluation, rows=7)
    with pytest.raises(RunError, match=r"expected \d+\.\d+% of 400 test texts right, as the exp"):
        format_model_card(
            run,
            make_fields(run),
            make_artifact(tmp_path / "artifact"),
            dataclasses.replace(evidence, evaluation=other),
        )


@pytest.mark.parametrize("name", ["evaluation.json", "data_card.json"])
def test_an_export_covers_what_the_card_reads(hollow_run: Run, tmp_path: Path, name: str) -> None:
    before = hash_run(hollow_run)
    (hollow_run.folder / name).write_text("{}")
    assert hash_run(hollow_run) != before
    with pytest.raises(RunError, match=rf"{name}: schema_version: expected 1, found None"):
        export_run(hollow_run.folder, tmp_path / "artifacts")
    assert not (tmp_path / "artifacts").exists()


def read_card(published: Path) -> str:
    return (published / "MODEL_CARD.md").read_text(encoding="utf-8")


def find_snippets(published: Path, language: str) -> list[str]:
    card = read_card(published)
    return re.findall(rf"^```{language}\n(.*?)^```$", card, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.slow
def test_every_snippet_of_the_card_runs(published: Path) -> None:
    snippets = find_snippets(published, "python")
    assert len(snippets) == 6
    for snippet in snippets:
        done = subprocess.run(
            [sys.executable, "-B", "-c", snippet],
            cwd=published,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, f"{snippet}\n{done.stderr}"
        assert done.stdout.strip(), snippet


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler on this machine")
def test_the_snippet_in_c_compiles_and_runs(artifact_copy: Path) -> None:
    (artifact_copy / "predict.c").write_text(find_snippets(artifact_copy, "c")[0])
    command = next(line for line in find_snippets(artifact_copy, "sh") if line.startswith("cc "))
    # Without optimisation: what is tested is the program, and that takes a second instead of ten.
    done = subprocess.run(
        ["sh", "-c", f"{command.strip().replace('-O3', '-O0')} && ./predict"],
        cwd=artifact_copy,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    label, probability = done.stdout.split()
    assert label in ("animal", "place", "food", "act", "time")
    assert 0.2 <= float(probability) <= 1


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("node") is None, reason="no node on this machine")
@pytest.mark.skipif(not NODE_MODULES.is_dir(), reason="run `npm ci` in docs/loaders/node")
def test_the_snippet_for_node_runs(artifact_copy: Path) -> None:
    (artifact_copy / "load.mjs").write_text(find_snippets(artifact_copy, "js")[0])
    (artifact_copy / "node_modules").symlink_to(NODE_MODULES)
    done = subprocess.run(
        ["node", "load.mjs"], cwd=artifact_copy, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "Float32Array(5)" in done.stdout


@pytest.mark.slow
def test_the_card_of_a_real_export_has_every_form_and_its_evidence(published: Path) -> None:
    card = read_card(published)
    for form in FORM_PATHS:
        assert f"\n| {form} | " in card
    assert [title.replace("(40 texts)", "(400 texts)") for title in list_titles(card)] == SECTIONS
    assert "not kept by this run" not in card
    for label in ("animal", "place", "food", "act", "time"):
        assert re.search(rf"^\| `{label}` \| .* \| 8 \|$", card, flags=re.MULTILINE)
    assert "\n- Bring more of animal.\n" in card


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="no sha256sum on this machine")
def test_the_checksums_of_a_real_export_hold(published: Path) -> None:
    command = next(line for line in find_snippets(published, "sh") if line.startswith("grep "))
    done = subprocess.run(
        ["sh", "-c", command], cwd=published, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    sums = re.findall(r"^[0-9a-f]{64}  (\S+)$", read_card(published), flags=re.MULTILINE)
    assert sums == sorted(set(read_artifact(published).manifest["files"]) - {"MODEL_CARD.md"})


@pytest.mark.slow
def test_the_card_tells_what_the_word_table_covers(published: Path) -> None:
    card = " ".join(read_card(published).split())
    entry = read_artifact(published).manifest["word_table"]
    assert entry["words"] == 11
    assert describe_word_table(entry) in card


@pytest.mark.slow
def test_the_card_tells_of_the_calibration(published: Path, tiny_run: Run) -> None:
    assert tiny_run.calibration["temperature"] == 0.8
    assert describe_calibration(tiny_run.calibration) in " ".join(read_card(published).split())
