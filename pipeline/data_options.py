"""The options that say which data is meant, shared by every command that needs data.

Options beat the file of `--config`, its source beats the classic variables, and everything beats
the defaults. Heavy libraries are imported inside the functions, so that `--help` answers at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
from click.core import ParameterSource
from rich.console import Console
from rich.progress import Progress

from pipeline.config import PrepareConfig, TableFormat

if TYPE_CHECKING:
    from pipeline.data_config import DataConfig
    from pipeline.data_folder import PreparedData
    from pipeline.tables.source import Source

_PREPARE = PrepareConfig()
_FIELDS = (
    *("text_column", "label_column", "format", "delimiter", "label_prefix"),
    *("vocab_size", "max_tokens"),
)


def build_root() -> Path:
    """Return the folder of everything generated: `GATETABLE_BUILD`, or `build`."""
    return Path(os.environ.get("GATETABLE_BUILD") or "build")


def _apply(options: list[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    def decorate(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


data_options = _apply(
    [
        click.option(
            "--source",
            multiple=True,
            help="A table (.csv, .tsv, .jsonl, .txt, each perhaps .gz; .parquet), a ZIP, or a "
            "quoted pattern such as 'news/*.csv.gz'; may be given several times. Default: the "
            "embedded WordNet definitions.",
        ),
        click.option(
            "--config",
            type=click.Path(path_type=Path),
            help="A TOML file with these options, row filters and a label map; options beat it.",
        ),
        click.option(
            "--zipfile-name",
            envvar="ZIPFILE_NAME",
            help="A ZIP under data/.  [env: ZIPFILE_NAME]",
        ),
        click.option(
            "--file-name",
            envvar="FILE_NAME",
            help="The table inside the ZIP; not needed for the only one.  [env: FILE_NAME]",
        ),
        click.option("--data-name", help="Name of the dataset's folder. Default: the source's."),
        click.option(
            "--format",
            type=click.Choice(get_args(TableFormat)),
            help="Default: by the ending; .txt is fasttext, lines that begin with their label.",
        ),
        click.option("--delimiter", help="Between the columns of a CSV.  [default: , or a tab]"),
        click.option(
            "--label-prefix",
            default=_PREPARE.label_prefix,
            show_default=True,
            help="Begins the first word of a fasttext line.",
        ),
        click.option("--text-column", default=_PREPARE.text_column, show_default=True),
        click.option("--label-column", default=_PREPARE.label_column, show_default=True),
        click.option(
            "--vocab-size",
            default=_PREPARE.vocab_size,
            show_default=True,
            help="SentencePiece pieces; lowered with a notice where the text cannot carry them.",
        ),
        click.option(
            "--max-tokens",
            default=_PREPARE.max_tokens,
            show_default=True,
            help="Longer texts are cut, in training and in every export.",
        ),
    ]
)
"""Decorator of a command; `prepare_data` takes what it adds."""


def _was_given(name: str) -> bool:
    """Return whether an option stands on the command line."""
    return click.get_current_context().get_parameter_source(name) is ParameterSource.COMMANDLINE


def _take_source(
    options: dict[str, Any], file: DataConfig, notify: Callable[[str], None]
) -> Source:
    from pipeline.tables.source import resolve_source

    variables = {name: options.pop(name) for name in ("zipfile_name", "file_name")}
    data_name = options.pop("data_name") or file.data_name
    path: Sequence[Path | str] = options.pop("source")
    if path and _was_given("zipfile_name"):
        raise ValueError("--source and --zipfile-name: expected one of them, found both.")
    if not path and not _was_given("zipfile_name"):
        path = file.source
    if path:
        # A source named outright beats the variables, but a member named outright goes with it.
        beaten = [name for name, value in variables.items() if value and not _was_given(name)]
        if beaten:
            names = " and ".join(map(str.upper, beaten))
            verb = "is" if len(beaten) == 1 else "are"
            notify(
                f"Reading {', '.join(map(str, path))}; {names} of the environment {verb} not used."
            )
        variables.update(dict.fromkeys(beaten))
    return resolve_source(path=path, name=data_name, **variables)


def prepare_data(options: dict[str, Any], console: Console) -> PreparedData:
    """Take the data options out of `options`, and prepare that data unless it is there already.

    Call it inside a command that has `data_options`.

    Raises:
        DataError: See `pipeline.prepare.prepare`.
        ValueError: A setting is out of range.
    """
    from pipeline.data_config import DataConfig, read_data_config
    from pipeline.prepare import prepare

    def notify(notice: str) -> None:
        console.print(notice, highlight=False, soft_wrap=True)

    path = options.pop("config")
    file = DataConfig() if path is None else read_data_config(path)
    source = _take_source(options, file, notify)
    given = {name: options.pop(name) for name in _FIELDS}
    if given["delimiter"] == "\\t":
        given["delimiter"] = "\t"  # what a shell makes of '\t'
    beating = {name: value for name, value in given.items() if _was_given(name)}
    config = PrepareConfig(**{**given, **file.fields, **beating})
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        return prepare(
            source,
            config,
            build_root() / "data" / source.name,
            progress=progress,
            notify=notify,
        )
