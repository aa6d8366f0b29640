"""Trials that are worth their cost, as a table and as a plot."""

from __future__ import annotations

import io
from xml.etree import ElementTree

from rich.console import Console

from pipeline.trials import (
    FailedTrial,
    Trial,
    draw_pareto,
    find_best_within,
    find_pareto,
    make_failure_table,
    make_table,
)


def trial(name: str, score: float, latency_us: float | None, table_mb: float = 10.0) -> Trial:
    values = {"layers": 1, "bidirectional": True, "units": 96, "embed_dim": 128, "pooling": "max"}
    return Trial(
        trial_id=name, values=values, score=score, table_mb=table_mb, latency_us=latency_us
    )


TRIALS = [trial("dear", 0.8, 30.0), trial("bad", 0.6, 20.0), trial("cheap", 0.7, 10.0)]


def test_the_front_holds_whoever_nobody_beats_in_both_cheapest_first() -> None:
    assert [each.trial_id for each in find_pareto(TRIALS)] == ["cheap", "dear"]
    assert [each.trial_id for each in find_pareto([trial("a", 0.5, 1), trial("b", 0.5, 1)])] == [
        "a"
    ]


def test_without_a_calibration_the_tables_are_the_cost() -> None:
    trials = [trial("large", 0.8, None, 50.0), trial("small", 0.8, None, 5.0)]
    assert [each.trial_id for each in find_pareto(trials)] == ["small"]


def test_the_table_shows_the_front_with_its_costs() -> None:
    console = Console(file=io.StringIO(), width=100)
    console.print(make_table([*TRIALS, trial("untimed", 0.9, None, 99.0)]))
    output = console.file.getvalue()  # type: ignore[attr-defined]
    assert "bad" not in output
    for cell in ("cheap", "1xBiGRU(96) E=128 max", "10.0 us", "10.0 MB", "70.00 %"):
        assert cell in output


def test_the_plot_is_the_same_each_time_and_says_the_best_in_words() -> None:
    drawn = draw_pareto(TRIALS)
    assert drawn == draw_pareto(TRIALS)
    ElementTree.fromstring(drawn)
    assert "the best, 1xBiGRU(96) E=128 max, reaches 80.00 %." in drawn


def test_the_best_within_a_time_is_the_best_score_that_keeps_it() -> None:
    for goal_us, found in ((10, "cheap"), (25, "cheap"), (30, "dear")):
        best = find_best_within(TRIALS, goal_us)
        assert best is not None
        assert best.trial_id == found
    assert find_best_within(TRIALS, 9.9) is None
    assert find_best_within([trial("untimed", 0.9, None, 1.0)], 25) is None


def test_a_failed_trial_is_listed_with_its_reason() -> None:
    failed = FailedTrial(
        trial_id="2",
        values={**TRIALS[0].values, "learning_rate": 0.0078},
        table_mb=1.0,
        latency_us=None,
        failure="the loss became nan in epoch 1",
    )
    console = Console(file=io.StringIO(), width=100)
    console.print(make_failure_table([failed]))
    output = console.file.getvalue()  # type: ignore[attr-defined]
    for cell in ("1xBiGRU(96) E=128 max", "0.0078", "the loss became nan in epoch 1"):
        assert cell in output
    assert failed.to_json()["score"] is None
    assert TRIALS[0].to_json()["failure"] is None
