"""Options, config file and variables: which of them wins, and what is said about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from pipeline import prepare as prepare_module
from pipeline.config import FilterConfig, PrepareConfig
from pipeline.data_options import data_options, prepare_data
from pipeline.tables.source import Source

Asked = tuple[Source, PrepareConfig, Path]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with two tables, a ZIP of none, and no variables."""
    monkeypatch.chdir(tmp_path)
    for name in ("ZIPFILE_NAME", "FILE_NAME", "GATETABLE_BUILD"):
        monkeypatch.delenv(name, raising=False)
    for name in ("a.csv", "b.csv"):
        Path(name).write_text("title,category\n")
    return tmp_path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Asked]:
    """What `prepare` is asked for, which is not done."""
    calls: list[Asked] = []
    monkeypatch.setattr(
        prepare_module,
        "prepare",
        lambda source, config, folder, **_: calls.append((source, config, folder)),
    )
    return calls


@click.command()
@data_options
def command(**options: Any) -> None:
    """Take the data options, all of them."""
    prepare_data(options, Console())
    assert options == {}


def run(*arguments: str, **variables: str) -> Result:
    return CliRunner().invoke(command, arguments, env=variables, catch_exceptions=False)


def test_options_beat_the_file_and_the_file_beats_the_defaults(
    workplace: Path, asked: list[Asked]
) -> None:
    Path("data.toml").write_text(
        'source = "a.csv"\ntext_column = "t"\nvocab_size = 100\nmax_tokens = 9\n'
        "[filters]\ntext_must_match = 'x'\n[labels]\na = 'b'\n"
    )
    run("--config", "data.toml", "--vocab-size", "15000", "--label-column", "l")
    ((source, config, folder),) = asked
    assert (str(source), folder) == ("a.csv", Path("build/data/a"))
    assert config == PrepareConfig(
        text_column="t",
        label_column="l",
        vocab_size=15_000,  # given, although it is the default
        max_tokens=9,
        filters=FilterConfig(text_must_match="x"),
        label_map=(("a", "b"),),
    )
    run("--config", "data.toml", "--source", "b.csv", "--data-name", "mine")
    assert (str(asked[1][0]), asked[1][2]) == ("b.csv", Path("build/data/mine"))


def test_source_may_be_given_several_times(workplace: Path, asked: list[Asked]) -> None:
    run("--source", "b.csv", "--source", "a.*")
    assert (str(asked[0][0]), asked[0][2]) == ("a.csv, b.csv", Path("build/data/b-and-1-more"))


def test_tab_may_be_written_as_in_a_program(workplace: Path, asked: list[Asked]) -> None:
    run("--source", "a.csv", "--delimiter", r"\t")
    run("--source", "a.csv", "--delimiter", ";")
    assert [config.delimiter for _, config, _ in asked] == ["\t", ";"]


def test_source_beats_the_variables_and_says_so(workplace: Path, asked: list[Asked]) -> None:
    variables = {"ZIPFILE_NAME": "news.zip", "FILE_NAME": "news.csv"}
    result = run("--source", "a.csv", **variables)
    assert result.output == (
        "Reading a.csv; ZIPFILE_NAME and FILE_NAME of the environment are not used.\n"
    )
    Path("data.toml").write_text('source = "b.csv"')
    result = run("--config", "data.toml", FILE_NAME="news.csv")
    assert result.output == "Reading b.csv; FILE_NAME of the environment is not used.\n"
    assert [str(source) for source, _, _ in asked] == ["a.csv", "b.csv"]
    assert run("--source", "a.csv").output == ""


def test_member_given_as_an_option_goes_with_the_source(
    workplace: Path, asked: list[Asked]
) -> None:
    result = run("--source", "a.zip", "--file-name", "x.csv", ZIPFILE_NAME="news.zip")
    assert str(asked[0][0]) == "x.csv in a.zip"
    assert result.output == "Reading a.zip; ZIPFILE_NAME of the environment is not used.\n"


def test_zip_given_as_an_option_beats_the_file(workplace: Path, asked: list[Asked]) -> None:
    Path("data.toml").write_text('source = "b.csv"')
    run("--config", "data.toml", "--zipfile-name", "no.zip", "--file-name", "x.csv")
    assert str(asked[0][0]).startswith("x.csv in ")


def test_two_sources_that_exclude_each_other_are_refused(workplace: Path) -> None:
    with pytest.raises(ValueError, match=r"--source and --zipfile-name: expected one of them, fou"):
        run("--source", "a.csv", "--zipfile-name", "no.zip")
