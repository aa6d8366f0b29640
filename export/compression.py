"""The compressed options of the lookup folder, what each costs, and which may be published.

Every named option is measured at every export against the exact arrays of the same run, by
`export/option_cost.py`: bytes, differences, texts with another answer, accuracy. One that loses
more accuracy than its budget is refused. All of it goes into manifest and model card but the time
an option takes, which depends on the machine and the minute: the same run must give the same
bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from export.difference import EXACT, TOLERANCE, AgreementError, Bounds, round_up
from export.lookup.config import RecurrentDtype, TableDtype
from export.sizes import format_bytes

DEFAULT_MAX_ACCURACY_LOSS = 0.002
"""Fraction of the test split: 23 texts of the embedded dataset's 11,435."""
MARGIN = 2
"""Bound of a compressed form over what was measured: another engine rounds the states it multiplies
with integers, to 14 bits, which adds less than the weights' own rounding does."""


class Option(NamedTuple):
    """How gate tables and recurrent kernels are stored.

    Attributes:
        table_dtype: Of the gate tables.
        recurrent_dtype: Of the recurrent kernels.
    """

    table_dtype: TableDtype
    recurrent_dtype: RecurrentDtype

    @property
    def label(self) -> str:
        """Name for people."""
        parts = [f"table {self.table_dtype}"] if self.table_dtype != "float32" else []
        if self.recurrent_dtype != "float32":
            parts.append(f"recurrent {self.recurrent_dtype}")
        return ", ".join(parts) or "exact (float32)"


EXACT_OPTION = Option("float32", "float32")
NAMED_OPTIONS = (
    EXACT_OPTION,
    Option("float16", "float32"),
    Option("int16", "float32"),
    Option("int8", "float32"),
    Option("float32", "int16"),
    Option("float32", "int8"),
)
"""Measured at every export, beside the chosen combination."""


class AccuracyLossError(AgreementError):
    """The chosen option loses more accuracy than its budget allows."""


@dataclass(frozen=True, kw_only=True)
class OptionCost:
    """What one option costs, against the exact arrays of the same run.

    Attributes:
        option: Which.
        array_bytes: All weight arrays of the lookup folder, without headers.
        max_abs_logit_diff: Over the test split and the probes.
        max_relative_logit_diff: The same, over max(1, largest |logit| of the text).
        max_abs_probability_diff: The same, of probabilities.
        top_1_changes: Texts of the test split with another first class.
        top_k_changes: Texts with another set of first k classes.
        top_1_hits: Texts whose label is first.
        top_k_hits: Texts whose label is among the first k.
        latency_us: Median microseconds of CPU time of one text alone, ids to logits.
    """

    option: Option
    array_bytes: int
    max_abs_logit_diff: float
    max_relative_logit_diff: float
    max_abs_probability_diff: float
    top_1_changes: int
    top_k_changes: int
    top_1_hits: int
    top_k_hits: int
    latency_us: float

    @property
    def bounds(self) -> Bounds:
        """What a form stored so may differ by from the trained model."""
        if self.option == EXACT_OPTION:
            return EXACT
        return Bounds(
            probability=min(1.0, round_up(MARGIN * self.max_abs_probability_diff + TOLERANCE)),
            logit=round_up(MARGIN * self.max_relative_logit_diff + TOLERANCE),
            same_ranks=False,
        )


@dataclass(frozen=True, kw_only=True)
class CompressionResult:
    """Costs of all options on one test split.

    Attributes:
        rows: Texts of the test split.
        k: How many first classes count as found.
        engine: Name of the engine that computed them.
        costs: Exact first, the chosen combination last if it is none of the named.
    """

    rows: int
    k: int
    engine: str
    costs: tuple[OptionCost, ...]

    def find(self, option: Option) -> OptionCost:
        """Return the cost of a measured option."""
        return next(cost for cost in self.costs if cost.option == option)

    def lost_hits(self, option: Option) -> tuple[int, int]:
        """Return how many labels fewer than exact are first, and among the first k."""
        exact, cost = self.costs[0], self.find(option)
        return exact.top_1_hits - cost.top_1_hits, exact.top_k_hits - cost.top_k_hits

    def is_within(self, option: Option, max_accuracy_loss: float) -> bool:
        """Tell whether an option loses at most that fraction of top-1 and of top-k accuracy."""
        return max(self.lost_hits(option)) <= max_accuracy_loss * self.rows

    def to_json(self, chosen: Option, max_accuracy_loss: float) -> dict[str, Any]:
        """Return the manifest's `compression` entry: everything but times."""
        return {
            **chosen._asdict(),
            "tolerance": self.find(chosen).bounds.probability,
            "max_accuracy_loss": max_accuracy_loss,
            "rows": self.rows,
            "k": self.k,
            "engine": self.engine,
            "options": [
                {
                    **cost.option._asdict(),
                    "array_bytes": cost.array_bytes,
                    "max_abs_logit_diff": round_up(cost.max_abs_logit_diff),
                    "max_abs_probability_diff": round_up(cost.max_abs_probability_diff),
                    "top_1": cost.top_1_hits / self.rows,
                    "top_k": cost.top_k_hits / self.rows,
                    "top_1_changes": cost.top_1_changes,
                    "top_k_changes": cost.top_k_changes,
                }
                for cost in self.costs
            ],
        }


def check_accuracy_loss(
    result: CompressionResult, chosen: Option, max_accuracy_loss: float
) -> None:
    """Refuse a chosen option that costs too much.

    Args:
        result: What was measured.
        chosen: The option.
        max_accuracy_loss: Largest accepted fall of top-1 and of top-k accuracy, a fraction.

    Raises:
        AccuracyLossError: It costs more; says how much, and what would be accepted.
    """
    if result.is_within(chosen, max_accuracy_loss):
        return
    names = ("top-1", f"top-{result.k}")
    exact, cost = result.costs[0], result.find(chosen)
    before = (exact.top_1_hits, exact.top_k_hits)
    after = (cost.top_1_hits, cost.top_k_hits)
    falls = " and ".join(
        f"{name} from {old / result.rows:.2%} to {new / result.rows:.2%} ({old - new} of "
        f"{result.rows} texts)"
        for name, old, new in zip(names, before, after, strict=True)
        if old - new > max_accuracy_loss * result.rows
    )
    within = "; ".join(
        cost.option.label
        for cost in result.costs[1:]
        if result.is_within(cost.option, max_accuracy_loss)
    )
    raise AccuracyLossError(
        f"lookup with {chosen.label}: expected accuracy on the test split to fall by at most "
        f"{max_accuracy_loss:g}, found {falls}. Nothing was published. Within the budget: "
        f"{within or 'no compressed option'}. Choose --lookup-table and --lookup-recurrent from "
        "these, or raise --max-accuracy-loss."
    )


def list_options(
    compression: Mapping[str, Any], latency_us: Mapping[Option, float] | None = None
) -> list[tuple[str, ...]]:
    """Return what a manifest's `compression` entry says as a table for people, its header first.

    Args:
        compression: The entry.
        latency_us: Microseconds a text of each option, for a last column; None for none.
    """
    k = compression["k"]
    header = ["table / kernel", "arrays", "Δlogit", "top-1", f"top-{k}", "changed"]
    rows = [(*header, "us") if latency_us else tuple(header)]
    for entry in compression["options"]:
        option = Option(entry["table_dtype"], entry["recurrent_dtype"])
        row = (
            " / ".join(option),
            format_bytes(entry["array_bytes"]),
            f"{entry['max_abs_logit_diff']:.1e}",
            f"{entry['top_1']:.2%}",
            f"{entry['top_k']:.2%}",
            f"{entry['top_1_changes']} / {entry['top_k_changes']}",
        )
        rows.append((*row, f"{latency_us[option]:.1f}") if latency_us else row)
    return rows
