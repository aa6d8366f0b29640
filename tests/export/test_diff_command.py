from __future__ import annotations

import json
import shutil
from pathlib import Path

from click.testing import CliRunner, Result

from export.__main__ import main
from export.bundle import format_manifest, hash_file

GOLDEN = Path(__file__).parents[1] / "golden"
V1, V2 = GOLDEN / "v1", GOLDEN / "v2"


def run_cli(*arguments: object) -> Result:
    environment = {"COLUMNS": "160", "GATETABLE_BUILD": "nowhere"}
    return CliRunner().invoke(main, ["diff", *map(str, arguments)], env=environment)


def test_identical_artifacts_exit_with_0() -> None:
    result = run_cli(V2, V2)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"identical: {V2} and {V2} hold the same bytes.\n"


def test_differences_are_shown_by_group_and_exit_with_1() -> None:
    result = run_cli(V1, V2)
    assert (result.exit_code, result.stderr) == (1, "")
    for text in (
        *("settings", "arrays of lookup/", "metrics", "parity", "provenance"),
        *("table_dtype", "<f4 (96, 9)", "lookup/word_ids.npy", "that cannot be helped"),
        *("7e95579a318a...", "files: 11 are the same", "probes: of 256, 0 have another first"),
    ):
        assert text in result.stdout, text


def test_unavoidable_bytes_exit_with_0(tmp_path: Path) -> None:
    other = shutil.copytree(V2, tmp_path / "2")
    card = other / "MODEL_CARD.md"
    card.write_text("another card")
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["files"]["MODEL_CARD.md"] = {"bytes": card.stat().st_size, "sha256": hash_file(card)}
    (other / "manifest.json").write_text(format_manifest(manifest))
    result = run_cli(V2, other)
    assert result.exit_code == 0
    assert "Both do the same: only bytes that cannot be helped differ." in result.stdout


def test_json_holds_everything() -> None:
    result = run_cli(V1, V2, "--json")
    found = json.loads(result.stdout)
    assert (result.exit_code, found["matters"], found["is_identical"]) == (1, True, False)
    assert found["settings"]["table_dtype"] == ["float32", "int16"]
    assert found["probes"]["rows"] == 256


def test_a_bad_folder_is_one_line_and_exits_with_2(tmp_path: Path) -> None:
    for second in (tmp_path, tmp_path / "none", V2 / "lookup", "unknown"):
        result = run_cli(V2, second)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith("error: ")
        assert result.stderr.count("\n") == 1


def test_the_help_teaches() -> None:
    text = " ".join(run_cli("--help").output.split())
    assert "Example: python -m export diff build/artifacts/wordnet31/1 wordnet31" in text
