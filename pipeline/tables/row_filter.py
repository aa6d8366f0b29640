"""Which rows are used, and what their labels become: the `[filters]` and `[labels]` of a config."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from pipeline.config import PrepareConfig


class RowFilter:
    """The filters and the label map of a configuration. For one thread.

    Attributes:
        unmet_labels: Labels of the map that no row had so far.
    """

    def __init__(self, config: PrepareConfig) -> None:
        patterns: Mapping[str, str | None] = dataclasses.asdict(config.filters)
        self._checks = [
            (name, name.startswith("text"), name.endswith("_must_match"), re.compile(pattern))
            for name, pattern in patterns.items()
            if pattern is not None
        ]
        self._labels = dict(config.label_map)
        self.unmet_labels = set(self._labels)

    def find_reason(self, text: str, label: str) -> str | None:
        """Return the name of the first filter that a row does not pass, None if it passes all."""
        for name, is_text, wanted, pattern in self._checks:
            if (pattern.search(text if is_text else label) is not None) != wanted:
                return name
        return None

    def map_label(self, label: str) -> str:
        """Return what a label becomes: itself where the map has no entry, "" to drop the row."""
        if label not in self._labels:
            return label
        self.unmet_labels.discard(label)
        return self._labels[label]
