"""The bar of a training: where it stands, and the line an epoch leaves."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

pytestmark = pytest.mark.slow

LOGS = {"loss": 1.25, "top_1": 0.5}


def test_an_epoch_leaves_one_line_of_results() -> None:
    from pipeline.progress_bar import ProgressBar

    console = Console(file=io.StringIO(), width=100)
    bar = ProgressBar(console, num_epochs=12, steps=20, k=3)
    bar.on_epoch_begin(1)
    bar.on_train_batch_end(9, LOGS)
    bar.on_epoch_end(1, {**LOGS, "val_top_1": 0.25, "val_top_3": 0.75})
    line = console.file.getvalue()
    assert line.startswith("epoch  2/12")
    assert line.endswith("loss 1.250  validation top-1 0.2500  top-3 0.7500\n")


def test_a_resumed_epoch_begins_where_it_was_interrupted_and_the_next_at_its_start() -> None:
    from pipeline.progress_bar import ProgressBar

    screen = Console(file=io.StringIO(), force_terminal=True, width=100)
    bar = ProgressBar(screen, num_epochs=2, steps=90, k=3, start_step=57)
    bar.on_epoch_begin(0)
    assert "57/90" in screen.file.getvalue()
    bar.on_train_batch_end(9, LOGS)
    bar.on_epoch_end(0, None)
    screen.file.truncate(0)
    bar.on_epoch_begin(1)
    bar.close()
    assert "0/90" in screen.file.getvalue()
    assert "57/90" not in screen.file.getvalue()
