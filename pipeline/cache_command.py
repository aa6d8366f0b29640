"""`--cache` of the commands that train, and `python -m pipeline clean-cache`."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import click
from rich.console import Console

from pipeline.cache_folder import CacheConfig, CacheMode, clean_caches
from pipeline.data_options import build_root

if TYPE_CHECKING:
    from pipeline.data_folder import PreparedData

_CACHES = "cache"

cache_option = click.option(
    "--cache",
    type=click.Choice(get_args(CacheMode)),
    default="memory",
    show_default=True,
    help="Where tokenised rows are kept between epochs. block and snapshot keep them under "
    "build/cache/, across runs and in bounded memory; the model is the same with each.",
)
"""Decorator of a command; `make_cache_config` takes its value."""


def make_cache_config(mode: CacheMode, data: PreparedData, console: Console) -> CacheConfig:
    """Return the settings of a cache for `data` below the build root."""
    return CacheConfig(
        mode=mode,
        root=build_root() / _CACHES,
        name=data.name,
        notify=lambda notice: console.print(notice, highlight=False, soft_wrap=True),
    )


@click.command("clean-cache")
def clean_cache() -> None:
    """Remove the tokenised rows under build/cache/ that no training is reading.

    Nothing is lost: the next run with --cache block or snapshot writes them again.
    """
    root = build_root() / _CACHES
    removed_bytes = 0
    for cache in clean_caches(root):
        size = f"{cache.size_bytes / 1e6:.1f} MB"
        if cache.removed:
            removed_bytes += cache.size_bytes
            click.echo(f"removed {cache.folder} ({size})")
        else:
            click.echo(f"kept {cache.folder} ({size}): a training is reading it")
    click.echo(f"{removed_bytes / 1e6:.1f} MB removed from {root}.")
