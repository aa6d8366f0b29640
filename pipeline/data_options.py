"""The options that say which data is meant, shared by every command that needs data.

Options beat environment variables, both beat the defaults. Heavy libraries are imported inside
the functions, so that `--help` answers at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import Progress

from pipeline.config import PrepareConfig

if TYPE_CHECKING:
    from pipeline.data_folder import PreparedData

_PREPARE = PrepareConfig()


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
            type=click.Path(path_type=Path),
            help="A .csv or .csv.gz file. Default: the embedded WordNet definitions.",
        ),
        click.option(
            "--zipfile-name",
            envvar="ZIPFILE_NAME",
            help="A ZIP under data/; goes with --file-name.  [env: ZIPFILE_NAME]",
        ),
        click.option(
            "--file-name", envvar="FILE_NAME", help="The CSV inside the ZIP.  [env: FILE_NAME]"
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


def prepare_data(options: dict[str, Any], console: Console) -> PreparedData:
    """Take the data options out of `options`, and prepare that data unless it is there already.

    Raises:
        DataError: See `pipeline.prepare.prepare`.
    """
    from pipeline.prepare import prepare
    from pipeline.source import resolve_source

    source = resolve_source(
        path=options.pop("source"),
        zipfile_name=options.pop("zipfile_name"),
        file_name=options.pop("file_name"),
    )
    config = PrepareConfig(
        **{
            field: options.pop(field)
            for field in ("text_column", "label_column", "vocab_size", "max_tokens")
        }
    )
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        return prepare(
            source,
            config,
            build_root() / "data" / source.name,
            progress=progress,
            notify=lambda notice: console.print(notice, highlight=False, soft_wrap=True),
        )
