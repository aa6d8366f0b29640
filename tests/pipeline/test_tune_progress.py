"""What a search says: a line a trial, and how far the workers are."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from pipeline.trials import FailedTrial, Trial
from pipeline.tune_progress import ProgressWriter, SearchProgress, format_seconds

VALUES = {"layers": 1, "bidirectional": True, "units": 96, "embed_dim": 128, "pooling": "max"}
GOOD = Trial(trial_id="03", values=VALUES, table_mb=1.5, latency_us=26.1, score=0.75)
BAD = FailedTrial(
    trial_id="04", values=VALUES, table_mb=1.5, latency_us=None, failure="MemoryError: no more"
)


def make_console(*, is_terminal: bool) -> Console:
    return Console(file=io.StringIO(), width=120, force_terminal=is_terminal)


def read(console: Console) -> str:
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_each_ended_trial_is_a_line_with_its_score_or_its_failure() -> None:
    console = make_console(is_terminal=False)
    with SearchProgress(console, total=3) as progress:
        progress.begin("tuner0", GOOD)
        progress.advance("tuner0", 0.5, "epoch 1/2")
        progress.end(GOOD, 12.0)
        progress.end(BAD, None)
    lines = read(console).splitlines()
    assert lines[0].startswith("trial 03  validation top-1 0.7500  26.1 us  1.5 MB  bidirectional")
    assert lines[1].startswith("trial 04  FAILED: MemoryError: no more  1.5 MB  ")
    assert len(lines) == 2


def test_a_terminal_shows_the_search_and_the_trial_under_way() -> None:
    console = make_console(is_terminal=True)
    with SearchProgress(console, total=4, tuners=2) as progress:
        progress.count_done(GOOD, 300.0)
        progress.begin("worker1", GOOD)
        progress.read_line("worker1", '{"share": 0.5, "note": "epoch 2/4  top-1 0.7"}')
        progress._progress.refresh()
    output = read(console)
    assert "trial 1 of 4" in output
    assert "best 0.7500 (trial 03), about 8 min left" in output
    assert "trial 03 1xBiGRU(96) E=128 max 26.1 us" in output
    assert "epoch 2/4  top-1 0.7" in output


@pytest.mark.parametrize("line", ["", "Data is up to date.", "[1]", '{"share": "x"}', "{}"])
def test_other_lines_of_a_worker_are_passed_over(line: str) -> None:
    with SearchProgress(make_console(is_terminal=False), total=1) as progress:
        progress.begin("worker1", GOOD)
        progress.read_line("worker1", line)


def test_what_a_worker_writes_is_what_its_supervisor_reads(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ProgressWriter().advance("worker1", 1 / 3, "epoch 1/2")
    line = capsys.readouterr().out
    assert line == '{"share": 0.3333, "note": "epoch 1/2"}\n'


@pytest.mark.parametrize(
    ("seconds", "text"), [(40, "40 s"), (89.6, "90 s"), (720, "12 min"), (12_600, "3.5 h")]
)
def test_times_are_said_as_people_say_them(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text
