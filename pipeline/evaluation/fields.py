"""The fields of an evaluation, which are those of `evaluation.json`.

Shares are fractions of 1, logarithms natural. Texts are cut to 300 characters. Without TensorFlow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from pipeline.evaluation.bootstrap import Interval
from pipeline.evaluation.measures import Bin, ClassMeasures, SplitMeasures
from pipeline.run_folder import RunError

EVALUATION_SCHEMA_VERSION = 1
MAX_TEXT_CHARS = 300


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A text of the test split whose first answer is wrong.

    Attributes:
        text: Its beginning.
        label: The right label.
        answer: The first answer.
        probability: What the model gave that answer.
    """

    text: str
    label: str
    answer: str
    probability: float


@dataclass(frozen=True, kw_only=True)
class RunEvaluation:
    """What was measured of one run.

    Attributes:
        run: Its name.
        fingerprint: Of the data.
        splits: By name; `test` is always there, `validation` where its data folder was.
        calibration: What `run.json` says: `temperature`, and before and after it.
        mistakes: The surest ones in the test split, surest first.
    """

    run: str
    fingerprint: str
    splits: Mapping[str, SplitMeasures]
    calibration: Mapping[str, Any]
    mistakes: tuple[Mistake, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values, with what derives from them; see `from_json`."""
        return {
            "schema_version": EVALUATION_SCHEMA_VERSION,
            "run": self.run,
            "fingerprint": self.fingerprint,
            "calibration": dict(self.calibration),
            "mistakes": [dataclasses.asdict(mistake) for mistake in self.mistakes],
            "splits": {name: _split_to_json(split) for name, split in self.splits.items()},
        }

    @classmethod
    def from_json(cls, fields: Any, *, place: str) -> Self:
        """Return the evaluation of `to_json`.

        Raises:
            RunError: The fields are not those, or of a newer schema.
        """
        try:
            version = fields["schema_version"]
            if version != EVALUATION_SCHEMA_VERSION:
                raise ValueError(f"schema_version {version!r}")
            return cls(
                run=str(fields["run"]),
                fingerprint=str(fields["fingerprint"]),
                calibration=fields["calibration"],
                mistakes=tuple(Mistake(**mistake) for mistake in fields["mistakes"]),
                # The file has its keys sorted; people read the validation first.
                splits={
                    name: _split_from_json(fields["splits"][name])
                    for name in ("validation", "test")
                    if name in fields["splits"]
                },
            )
        except (KeyError, TypeError, ValueError, AttributeError) as err:
            raise RunError(
                f"{place}: expected an evaluation of schema_version {EVALUATION_SCHEMA_VERSION}, "
                f"found {err!r}. Write it again with `python -m pipeline evaluate --force`."
            ) from err


def _split_to_json(split: SplitMeasures) -> dict[str, Any]:
    classes = [
        {
            **dataclasses.asdict(one),
            "precision": one.precision,
            "recall": one.recall,
            "f1": one.f1,
        }
        for one in split.classes
    ]
    return {
        **dataclasses.asdict(split),
        "bins": [dataclasses.asdict(one) for one in split.bins],
        "classes": classes,
        "confusion": [list(cell) for cell in split.confusion],
        "macro_f1": split.macro_f1,
        "balanced_accuracy": split.balanced_accuracy,
    }


def _split_from_json(fields: Mapping[str, Any]) -> SplitMeasures:
    return SplitMeasures(
        rows=fields["rows"],
        k=fields["k"],
        top_1=Interval(**fields["top_1"]),
        top_k=Interval(**fields["top_k"]),
        nll=fields["nll"],
        brier=fields["brier"],
        ece=fields["ece"],
        bins=tuple(Bin(**one) for one in fields["bins"]),
        classes=tuple(
            ClassMeasures(
                label=one["label"],
                support=one["support"],
                predicted=one["predicted"],
                hits=one["hits"],
            )
            for one in fields["classes"]
        ),
        confusion=tuple((right, answer, count) for right, answer, count in fields["confusion"]),
    )
