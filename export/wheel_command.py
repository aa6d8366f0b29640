"""`python -m export wheel`: the command line of the runtime's wheel."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click
from rich.console import Console

from export.sizes import format_bytes
from export.wheel import PACKAGE, WheelError, build_wheel


@click.command("wheel")
@click.option(
    "--into",
    type=click.Path(path_type=Path),
    default=lambda: Path(os.environ.get("GATETABLE_BUILD") or "build") / "wheels",
    show_default="build/wheels",
    help="Folder to put it in.",
)
@click.option("--pure", is_flag=True, help="Leave the compiled kernel out: for every machine.")
def wheel_command(into: Path, pure: bool) -> None:
    """Build a wheel of the runtime: what serves a lookup folder, with NumPy alone.

    It holds the kernel compiled for machines like this one and any Python from 3.11 on; without
    a C compiler, the NumPy engine only. CC and CFLAGS are honoured. The same sources and
    tools give the same bytes.

    Example: python -m export wheel --into dist
    """
    try:
        with Console(stderr=True).status("Building the wheel"):
            result = build_wheel(into, pure=pure)
    except (WheelError, OSError) as err:
        click.echo(f"error: {err}", err=True)
        sys.exit(2)
    if result.missing is not None:
        click.echo(
            f"notice: no compiled kernel in it, the NumPy engine serves instead. {result.missing}",
            err=True,
        )
    size = format_bytes(result.path.stat().st_size)
    click.echo(
        f"{result.path}: {size}. Install it with `pip install '{result.path}[text]'`, then run "
        f"`python -m {PACKAGE} FOLDER TEXT`."
    )
