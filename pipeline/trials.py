"""Ended trials of a search: which are worth their cost, as tables and as a plot."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE
from rich.table import Table

from pipeline.config import describe_shape
from pipeline.plots import COLOURS, figure_to_svg, make_figure, plot_style

LATENCY_GOALS_US = (10, 25)
"""For each of them the best model within it is named."""


@dataclass(frozen=True, kw_only=True)
class _Described:
    trial_id: str
    values: dict[str, Any]
    table_mb: float
    latency_us: float | None

    @property
    def cost(self) -> float:
        """What is weighed against the score: the predicted time, else the size of the tables."""
        return self.table_mb if self.latency_us is None else self.latency_us

    @property
    def predicted(self) -> str:
        """The predicted time as text."""
        return "-" if self.latency_us is None else f"{self.latency_us:.1f} us"

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values, `score` and `failure` always among them."""
        return {"score": None, "failure": None, **dataclasses.asdict(self)}


@dataclass(frozen=True, kw_only=True)
class Trial(_Described):
    """One finished trial.

    Attributes:
        trial_id: KerasTuner's.
        values: Hyperparameters.
        score: Best validation top-1, a fraction.
        table_mb: Size of the gate tables, MB.
        latency_us: Predicted time of a text of median length from lookup tables; None without a
            calibration.
    """

    score: float


@dataclass(frozen=True, kw_only=True)
class FailedTrial(_Described):
    """One trial without a score, and why; the other attributes are those of `Trial`."""

    failure: str


def find_pareto(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials that none beats in both cost and score, cheapest first."""
    front: list[Trial] = []
    for trial in sorted(trials, key=lambda trial: (trial.cost, -trial.score)):
        if not front or trial.score > front[-1].score:
            front.append(trial)
    return front


def find_best_within(trials: Sequence[Trial], latency_us: float) -> Trial | None:
    """Return the trial of the best score among those predicted to take at most `latency_us`."""
    within = [trial for trial in trials if trial.latency_us is not None]
    within = [trial for trial in within if trial.cost <= latency_us]
    return max(within, key=lambda trial: trial.score, default=None)


def make_table(trials: Sequence[Trial]) -> Table:
    """Return the trials that are worth their cost, cheapest first."""
    table = Table(title="Worth their cost, cheapest first", title_justify="left", box=SIMPLE)
    for column in ("trial", "shape", "predicted", "tables", "validation top-1"):
        table.add_column(column, justify="left" if column in ("trial", "shape") else "right")
    for trial in find_pareto(trials):
        table.add_row(
            trial.trial_id,
            describe_shape(trial.values),
            trial.predicted,
            f"{trial.table_mb:.1f} MB",
            f"{100 * trial.score:.2f} %",
        )
    return table


def make_failure_table(failed: Sequence[FailedTrial]) -> Table:
    """Return the trials that failed, with the reasons."""
    table = Table(title="Failed, and left out", title_justify="left", box=SIMPLE)
    for column in ("trial", "shape", "learning rate", "reason"):
        table.add_column(column, justify="right" if column == "learning rate" else "left")
    for trial in failed:
        table.add_row(
            trial.trial_id,
            describe_shape(trial.values),
            f"{trial.values.get('learning_rate', float('nan')):.2g}",
            trial.failure,
        )
    return table


def draw_pareto(trials: Sequence[Trial]) -> str:
    """Draw validation accuracy against cost as an SVG file: every trial, and the front.

    Args:
        trials: At least one.
    """
    front = find_pareto(trials)
    timed = trials[0].latency_us is not None
    with plot_style():
        figure, axes = make_figure(width_in=7.2, height_in=3.6)
        axes.plot(
            [trial.cost for trial in trials],
            [100 * trial.score for trial in trials],
            "o",
            color=COLOURS[-1],
            label="trial",
        )
        axes.step(
            [trial.cost for trial in front],
            [100 * trial.score for trial in front],
            where="post",
            marker="o",
            color=COLOURS[0],
            label="worth its cost",
        )
        axes.set_xscale("log")
        axes.set_xlabel(
            "predicted microseconds of a text of median length, lookup tables"
            if timed
            else "lookup tables, MB"
        )
        axes.set_ylabel("validation top-1, %")
        axes.legend(loc="lower right")
        best = front[-1]
        return figure_to_svg(
            figure,
            alt=f"Validation top-1 of {len(trials)} trials against their cost; the best, "
            f"{describe_shape(best.values)}, reaches {100 * best.score:.2f} %.",
            standalone=True,
        )
