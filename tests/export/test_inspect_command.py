from __future__ import annotations

import json
import shutil
from pathlib import Path

from click.testing import CliRunner, Result

from export.__main__ import main
from export.inspect_command import clean

GOLDEN = Path(__file__).parents[1] / "golden" / "v2"


def run_cli(*arguments: object) -> Result:
    environment = {"COLUMNS": "200", "GATETABLE_BUILD": "nowhere"}
    return CliRunner().invoke(main, ["inspect", *map(str, arguments)], env=environment)


def test_an_artifact_is_shown_as_tables() -> None:
    result = run_cli(GOLDEN)
    assert (result.exit_code, result.stderr) == (0, "")
    for text in (
        *("tiny, version 1", "format 2, schema 2, lookup format 2", "1xGRU(3) E=3 max"),
        *("V 96, E 3, H 3, C 2", "2: animal, other", "tables int16, recurrent kernels int8"),
        *("11 in the word table", "256, within 0.00017", "top_1 0.2000", "GRU 1", "IR 8"),
        *("7.9e-05 over 40 rows", "all 70 hold", "<i2 (96, 9)", "lookup/runtime/ (42 files)"),
    ):
        assert text in result.stdout, text


def test_json_holds_everything() -> None:
    found = json.loads(run_cli(GOLDEN, "--json", "--no-checksums").stdout)
    assert (found["name"], found["labels"], found["damaged"]) == ("tiny", ["animal", "other"], [])
    assert found["arrays"]["gate_table"] == ["<i2", [96, 9]]
    assert len(found["files"]) == 70


def test_a_lookup_folder_alone_is_shown() -> None:
    result = run_cli(GOLDEN / "lookup", "--no-checksums")
    assert result.exit_code == 0
    assert "lookup folder" in result.stdout
    assert "not compared" in result.stdout


def test_damage_is_told_and_exits_with_1(tmp_path: Path) -> None:
    artifact = shutil.copytree(GOLDEN, tmp_path / "1")
    path = artifact / "lookup" / "runtime" / "gru.py"
    path.write_bytes(path.read_bytes()[:-1] + b"#")
    result = run_cli(artifact)
    assert result.exit_code == 1
    assert "1 of 70 differ: lookup/runtime/gru.py" in result.stdout
    assert run_cli(artifact, "--no-checksums").exit_code == 0
    assert json.loads(run_cli(artifact, "--json").stdout)["damaged"] == ["lookup/runtime/gru.py"]


def test_a_bad_folder_is_one_line_and_exits_with_2(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    for folder in (tmp_path, tmp_path / "none", "unknown"):
        result = run_cli(folder)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith("error: ")
        assert result.stderr.count("\n") == 1


def test_the_help_teaches() -> None:
    text = " ".join(run_cli("--help").output.split())
    assert "Example: python -m export inspect wordnet31 --json | jq .axes" in text


def test_what_a_terminal_would_obey_is_not_shown() -> None:
    assert str(clean("a\x1b[2Jb [red]c")) == "a\ufffd[2Jb [red]c"
