from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from export.__main__ import main


def run_cli(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["wheel", *map(str, arguments)])


@pytest.fixture(autouse=True)
def leave_no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder, with no settings of whoever runs this."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GATETABLE_BUILD", raising=False)


def test_help_teaches_by_an_example() -> None:
    result = run_cli("--help")
    assert result.exit_code == 0
    assert "Example: python -m export wheel --into dist" in result.output


def test_it_says_where_the_wheel_is_and_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run_cli("--pure")
    assert (result.exit_code, result.stderr) == (0, "")
    (path,) = (tmp_path / "build" / "wheels").iterdir()
    shown = path.relative_to(tmp_path)
    assert result.stdout.startswith(f"{shown}: ")
    assert f"Install it with `pip install '{shown}[text]'`, then run `python -m " in result.stdout
    monkeypatch.setenv("GATETABLE_BUILD", str(tmp_path / "elsewhere"))
    assert run_cli("--pure").exit_code == 0
    assert (tmp_path / "elsewhere" / "wheels" / path.name).is_file()
    assert run_cli("--pure", "--into", "dist").exit_code == 0
    assert (tmp_path / "dist" / path.name).is_file()


def test_without_a_compiler_there_is_a_notice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    result = run_cli()
    assert result.exit_code == 0
    assert "py3-none-any.whl: " in result.stdout
    assert result.stderr.startswith(
        "notice: no compiled kernel in it, the NumPy engine serves instead. PATH: expected a C "
    )


def test_what_is_wrong_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = run_cli("--into", "file")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "error: file: expected a folder to write into, found a file. Name another.\n"
    )
    result = run_cli("--into", "file/below", "--pure")
    assert (result.exit_code, "Traceback" in result.stderr) == (2, False)
