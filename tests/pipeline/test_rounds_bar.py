"""The bar over the children of a round."""

from __future__ import annotations

import io

from rich.console import Console

from pipeline.rounds_bar import show_progress


def test_a_terminal_shows_what_is_measured_and_how_many_are_done() -> None:
    shown = io.StringIO()
    with show_progress(Console(file=shown, force_terminal=True, width=100), width=28) as advance:
        advance("round 1: keras_fit", 2, 5)
    assert f"{'round 1: keras_fit':<28}" in shown.getvalue()
    assert "2/5" in shown.getvalue()


def test_what_is_no_terminal_stays_empty() -> None:
    shown = io.StringIO()
    with show_progress(Console(file=shown)) as advance:
        advance("round 1: keras_fit", 2, 5)
    assert shown.getvalue().strip() == ""
