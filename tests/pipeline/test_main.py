"""The command line: it teaches, it says what is wrong, and the classic variables work."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pipeline.__main__ import cli
from pipeline.config import TrainConfig

COLUMNS = "headline,section"
TOPICS = {"날씨": ["비가 오는 아침", "맑은 하늘"], "sport": ["a late goal", "the home team"]}


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory whose build folder is its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GATETABLE_BUILD", raising=False)
    for name in ("ZIPFILE_NAME", "FILE_NAME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def news_zip(workplace: Path) -> Path:
    """data/news.zip with other column names and Korean rows."""
    rows = [COLUMNS]
    for index in range(300):
        label = list(TOPICS)[index % 2]
        rows.append(f"{TOPICS[label][index // 2 % 2]} {index},{label}")
    (workplace / "data").mkdir()
    path = workplace / "data" / "news.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("news.csv", "\n".join(rows))
        archive.writestr("other.csv", COLUMNS)
    return path


def run(*arguments: str, **variables: str) -> Result:
    return CliRunner().invoke(cli, arguments, env=variables, catch_exceptions=False)


SMALL = (
    *("--text-column", "headline", "--label-column", "section", "--vocab-size", "120"),
    *("--max-tokens", "16"),
)


@pytest.mark.parametrize("command", ["data", "train", "tune", "baseline"])
def test_help_shows_an_example(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"Example: python -m pipeline {command}" in " ".join(result.output.split())


def test_defaults_are_the_classic_ones() -> None:
    options = {option.name: option.default for option in cli.commands["train"].params}
    assert (options["vocab_size"], options["embed_dim"], options["num_predict"]) == (15_000, 128, 3)
    assert options["num_epochs"] == TrainConfig().num_epochs
    assert (options["text_column"], options["label_column"]) == ("title", "category")


@pytest.mark.parametrize(
    ("arguments", "variables", "message"),
    [
        ((), {"ZIPFILE_NAME": "news.zip"}, "FILE_NAME"),
        ((), {"FILE_NAME": "news.csv"}, "ZIPFILE_NAME"),
        ((), {"ZIPFILE_NAME": "../n.zip", "FILE_NAME": "a.csv"}, "a ZIP under data/, found"),
        ((), {"ZIPFILE_NAME": "no.zip", "FILE_NAME": "a.csv"}, "no.zip: .*no such file"),
        ((), {"ZIPFILE_NAME": "news.zip", "FILE_NAME": "no.csv"}, "no.csv"),
        (("--source", "no.csv"), {}, "no.csv: .*no such file"),
        (("--max-tokens", "0"), {}, "max_tokens: expected a value from 1 to 65536, found 0"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    news_zip: Path, arguments: tuple[str, ...], variables: dict[str, str], message: str
) -> None:
    result = run("data", *arguments, **variables)
    assert result.exit_code == 2
    assert re.search(message, result.output)
    assert result.output.startswith("error: ")
    assert "Traceback" not in result.output
    assert not list(Path("build").rglob("*.tfrecord"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--units", "0"), "units: expected a value from 1 to 4096, found 0"),
        (("--num-epochs", "0"), "num_epochs: expected a value from 1 to 10000, found 0"),
        (("--name", "a/b"), "name: expected 1 to 100 letters"),
        (("--hp", "none.json"), "none.json: expected the best.json that `make tune` wrote"),
        (("--hp", "text.json"), "units: expected an integer from 1 to 4096, found 'abc'"),
    ],
)
def test_settings_are_checked_before_any_work(
    news_zip: Path, arguments: tuple[str, ...], message: str
) -> None:
    Path("text.json").write_text('{"units": "abc"}')
    result = run("train", *SMALL, *arguments, ZIPFILE_NAME="news.zip", FILE_NAME="news.csv")
    assert result.exit_code == 2
    assert message in result.output
    assert not Path("build").exists()


@pytest.mark.slow
def test_a_hyperparameter_file_with_foreign_keys_is_refused(news_zip: Path) -> None:
    Path("best.json").write_text('{"unit": 4}')
    result = run(
        *("train", *SMALL, "--hp", "best.json"), ZIPFILE_NAME="news.zip", FILE_NAME="news.csv"
    )
    assert result.exit_code == 2
    assert "best.json: expected a JSON object with keys among" in result.output


@pytest.mark.slow
def test_a_zip_with_korean_rows_and_other_columns_trains_by_the_classic_variables(
    news_zip: Path,
) -> None:
    Path(".env").write_text("ZIPFILE_NAME=missing.zip\nFILE_NAME=news.csv\n")
    Path("best.json").write_text(json.dumps({"units": 4, "embed_dim": 6, "head_dropout": 0.0}))
    options: tuple[Any, ...] = ("--num-epochs", "2", "--batch-size", "32", "--num-predict", "2")
    result = run("train", *SMALL, *options, "--hp", "best.json", ZIPFILE_NAME="news.zip")
    assert result.exit_code == 0, result.output
    (folder,) = Path("build/runs").glob("news-*")
    fields = json.loads((folder / "run.json").read_text())
    assert fields["model"]["units"] == 4
    assert json.loads((folder / "labels.json").read_text()) == ["sport", "날씨"]
    texts = (folder / "test_split.jsonl").read_text(encoding="utf-8")
    assert "비가 오는 아침" in texts or "맑은 하늘" in texts
    again = run("train", *SMALL, *options, "--hp", "best.json", ZIPFILE_NAME="news.zip")
    assert "is finished already" in again.output
