"""What a person sees of a benchmark: one bar a round, over the child processes it starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


@contextmanager
def show_progress(
    console: Console, *, width: int = 44
) -> Iterator[Callable[[str, int, int], None]]:
    """Give a function that moves a bar over the children of a round.

    Args:
        console: Where to; one that is no terminal shows nothing.
        width: Columns for what is being measured.

    Yields:
        A function of what is being measured, how many are done, and of how many.
    """
    progress = Progress(
        TextColumn(f"{{task.description:<{width}}}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with progress:
        task = progress.add_task("")

        def advance(what: str, done: int, total: int) -> None:
            progress.update(task, description=what, completed=done, total=total)

        yield advance
