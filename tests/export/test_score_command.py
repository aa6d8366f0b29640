from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from export import score_command
from export.__main__ import main
from tests.export.tiny import make_texts

ROOT = Path(__file__).parents[2]


def run_cli(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["score", *map(str, arguments)])


@pytest.fixture
def titles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A CSV of 40 titles in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "in.csv"
    path.write_text("title\n" + "".join(f'"{text}"\n' for text in make_texts()), encoding="utf-8")
    return path


def test_help_teaches_by_an_example() -> None:
    result = run_cli("--help")
    assert result.exit_code == 0
    assert "Example: python -m export score build/artifacts" in result.output


def test_it_says_what_it_did(titles: Path, tiny_lookup: Path, tmp_path: Path) -> None:
    with titles.open("a") as file:
        file.write("one,too many\n")
    result = run_cli(tiny_lookup, titles, tmp_path / "out.csv", "--k", 1, "--threads", 2)
    assert result.exit_code == 0, result.stderr
    assert "out.csv: 40 rows; 40 scored in " in result.stdout
    assert "rows/s, engine " in result.stdout
    assert "1 rows have no text: scored as one unknown token." in result.stdout
    assert "1 rows have another number of fields than the header and are" in result.stdout
    assert "out.csv.rejects.jsonl" in result.stdout
    assert "writing the output" in result.stderr


def test_bad_input_exits_with_two_and_one_line(
    titles: Path, tiny_lookup: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    for arguments, message in (
        ((tmp_path / "none", titles, out), "none: expected a lookup folder, found none"),
        ((tiny_lookup, tmp_path / "none", out), "none: expected a CSV, gzipped CSV or Parquet"),
        ((tiny_lookup, titles, tmp_path / "o.tsv"), "o.tsv: expected a name that ends in .csv"),
        ((tiny_lookup, titles, out, "--text-column", "x"), "expected one column 'x', found none"),
        ((tiny_lookup, titles, out, "--k", "9"), "k: expected 1 to 5, the labels of"),
        ((tiny_lookup, titles, titles), "expected another file than the input to write to"),
    ):
        result = run_cli(*arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        assert f"error: {message}" in result.stderr.replace(f"{tmp_path}/", "") or (
            message in result.stderr
        )
        assert "Traceback" not in result.stderr
    for option in (("--k", "0"), ("--batch", "0"), ("--threads", "0"), ("--engine", "abacus")):
        assert run_cli(tiny_lookup, titles, out, *option).exit_code == 2


def test_ray_is_asked_for_by_name(
    titles: Path, tiny_lookup: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run_cli(tiny_lookup, titles, tmp_path / "out.csv", "--workers", 2)
    assert result.exit_code == 2
    assert "--workers: expected --ray beside it, found none. Say --threads." in result.stderr
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "export.score_ray", raising=False)
    result = run_cli(tiny_lookup, titles, tmp_path / "out.csv", "--ray")
    assert result.exit_code == 2
    assert "--ray: expected the package ray, found: import of ray halted" in result.stderr
    assert "Run `pip install 'ray[data]'` on every machine of the cluster." in result.stderr


def test_interrupting_says_that_it_goes_on(
    titles: Path, tiny_lookup: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(score_command, "score_file", interrupt)
    result = run_cli(tiny_lookup, titles, tmp_path / "out.csv")
    assert result.exit_code == 130
    assert "Finished parts are kept: run the same command to go on." in result.stderr


def test_neither_tensorflow_nor_onnx_is_needed(
    titles: Path, tiny_lookup: Path, tmp_path: Path
) -> None:
    code = (
        "import runpy, sys\n"
        "for name in ('tensorflow', 'keras', 'onnx', 'onnxruntime', 'tf2onnx', 'ray'):\n"
        "    sys.modules[name] = None  # an import of it is an ImportError now\n"
        "runpy.run_module('export', run_name='__main__', alter_sys=True)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "score", tiny_lookup, titles, tmp_path / "out.parquet"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "40 rows; 40 scored" in done.stdout
