"""The golden probes of an artifact, and whether a loader's answers are theirs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LOADERS = ROOT / "docs" / "loaders"
TIE = 2e-5
"""Labels whose probabilities are closer may change places."""


@dataclass(frozen=True)
class Probes:
    """Golden probes, the JSON lines that loaders read, the labels by id, and how many count."""

    lines: str
    rows: list[dict[str, Any]]
    labels: list[str]
    k: int = 3

    def check(self, answers: Sequence[Sequence[str]]) -> None:
        """Check that each text's k labels are those of the trained model, in their order."""
        assert len(answers) == len(self.rows) > 0
        for row, answer in zip(self.rows, answers, strict=True):
            best = sorted(row["probabilities"], reverse=True)[: self.k]
            assert len(set(answer)) == len(best), row["text"]
            found = [row["probabilities"][self.labels.index(label)] for label in answer]
            gaps = [abs(one - other) for one, other in zip(best, found, strict=True)]
            assert max(gaps) < TIE, (row["text"], answer)

    def check_printed(self, printed: str) -> None:
        """The same, of lines of labels with tabs between them."""
        self.check([line.split("\t") for line in printed.rstrip("\n").split("\n")])


def read_probes(artifact: Path) -> Probes:
    """Read an artifact's golden probes."""
    lines = (artifact / "golden.jsonl").read_text(encoding="utf-8")
    labels = json.loads((artifact / "labels.json").read_text(encoding="utf-8"))
    return Probes(lines, [json.loads(line) for line in lines.split("\n") if line], labels)
