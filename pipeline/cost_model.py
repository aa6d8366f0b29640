"""What a model will cost when it is served from lookup tables, before it is trained.

The size of the tables is arithmetic. The time is predicted from a calibration, a JSON file that
`python -m serving_compare calibrate` measures on the machine that will serve: random models of
chosen shapes, timed by the runtime itself. Nothing of that runtime is imported here.

The time of a text of T tokens, batch 1, ids in, is taken to be a sum:

    call             once
    first layer      directions x (first(H) + (T - 1) x step(H))
    further layers   directions x T x (step(H) + width x projection(H))       width = directions x H
    head             (width x C - 64 H) x rate                   first(H) has a head of H x 64 in it
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config import ModelConfig

CALIBRATION_SCHEMA_VERSION = 1
CALIBRATION_FILE = "calibration.json"
MAX_CALIBRATION_BYTES = 2**20
BASE_CLASSES = 64
"""C of the cells that the steps are taken from."""
_CELL_FIELDS = {"units": int, "layers": int, "directions": int, "classes": int, "tokens": int}


class CalibrationError(ValueError):
    """A calibration that is missing, damaged, or does not hold the cells a prediction needs."""


def table_megabytes(config: ModelConfig) -> float:
    """Return the size of the gate tables in MB (10^6 bytes): directions x V x 3H float32."""
    return config.directions * config.vocab_size * 3 * config.units * 4 / 1e6


@dataclass(frozen=True, kw_only=True)
class CostModel:
    """Predicts latencies from one machine's calibration.

    Args:
        units: (n,) sizes H that were measured, ascending.
        call_us: Time of a call beside all of the below, whatever the shape.
        first_us: (n,) time of one token, one layer and direction, C = `BASE_CLASSES`.
        step_us: (n,) time of each further token.
        projection_units: (m,) sizes of which two layers were measured, ascending.
        projection_us: (m,) time a token and input that a further layer's input product takes.
        head_us: Time a weight of the head.
        engine: What was measured, such as "native avx2".
    """

    units: NDArray[np.float64]
    call_us: float
    first_us: NDArray[np.float64]
    step_us: NDArray[np.float64]
    projection_units: NDArray[np.float64]
    projection_us: NDArray[np.float64]
    head_us: float
    engine: str

    def predict_us(self, config: ModelConfig, tokens: int) -> float:
        """Return the predicted time of one text in µs.

        Args:
            config: Shape of the model; sizes outside those measured are extrapolated.
            tokens: T, at least 1.
        """
        units = config.units
        first, step = (
            _look_up(units, self.units, values) for values in (self.first_us, self.step_us)
        )
        total = self.call_us + config.directions * (first + (tokens - 1) * step)
        projection = _look_up(units, self.projection_units, self.projection_us)
        deeper = tokens * (step + config.pooled_dim * projection)
        total += (config.layers - 1) * config.directions * deeper
        head_weights = config.pooled_dim * config.num_classes
        # Each direction's first() holds a head of H x 64.
        counted = config.directions * units * BASE_CLASSES
        return float(max(self.call_us + first, total + (head_weights - counted) * self.head_us))


def _look_up(units: int, sizes: NDArray[np.float64], values: NDArray[np.float64]) -> float:
    """A power law between neighbouring sizes, and beyond the ends by the outermost two."""
    position = int(np.clip(np.searchsorted(sizes, units) - 1, 0, len(sizes) - 2))
    x = np.log(sizes[position : position + 2])
    y = np.log(values[position : position + 2])
    return float(np.exp(y[0] + (np.log(units) - x[0]) * (y[1] - y[0]) / (x[1] - x[0])))


def read_cost_model(path: Path) -> CostModel:
    """Read a calibration.

    Raises:
        CalibrationError: See there.
    """
    try:
        size = path.stat().st_size
        if size > MAX_CALIBRATION_BYTES:
            raise CalibrationError(
                f"{path}: expected at most {MAX_CALIBRATION_BYTES} bytes, found {size}."
            )
        fields = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as err:
        raise CalibrationError(
            f"{path}: expected this machine's calibration, found none. Measure it with "
            "`make calibrate`, about 20 s."
        ) from err
    except (OSError, ValueError, RecursionError) as err:
        if isinstance(err, CalibrationError):
            raise
        raise CalibrationError(
            f"{path}: expected a calibration, found {err}. Measure it again with `make calibrate`."
        ) from err
    return make_cost_model(fields, where=str(path))


def make_cost_model(fields: Any, *, where: str = "calibration") -> CostModel:
    """Return the model of a calibration's content.

    Args:
        fields: `schema_version`, `engine` and `cells`, each with `units`, `layers`, `directions`,
            `classes`, `tokens` and `median_us`.
        where: Named in errors.

    Raises:
        CalibrationError: It is not that.
    """
    if (
        not isinstance(fields, Mapping)
        or fields.get("schema_version") != CALIBRATION_SCHEMA_VERSION
    ):
        raise CalibrationError(
            f"{where}: expected schema_version {CALIBRATION_SCHEMA_VERSION}, found another. "
            "Measure it again with `make calibrate`."
        )
    cells = _index_cells(fields.get("cells"), where)
    units = sorted({key[0] for key in cells if key[1:] == (1, 1, BASE_CLASSES, 1)})
    tokens = max((key[4] for key in cells), default=1)
    first = [cells[h, 1, 1, BASE_CLASSES, 1] for h in units]
    try:
        step = [
            (cells[h, 1, 1, BASE_CLASSES, tokens] - one) / (tokens - 1)
            for h, one in zip(units, first, strict=True)
        ]
        deep = sorted({key[0] for key in cells if key[1] == 2})
        projection = [
            (cells[h, 2, 1, BASE_CLASSES, tokens] - cells[h, 1, 1, BASE_CLASSES, tokens])
            / (tokens * h)
            - step[units.index(h)] / h
            for h in deep
        ]
        wide_units, wide = max((key[0], key[3]) for key in cells if key[3] != BASE_CLASSES)
        head = cells[wide_units, 1, 1, wide, 1] - cells[wide_units, 1, 1, BASE_CLASSES, 1]
        head /= wide_units * (wide - BASE_CLASSES)
    except (KeyError, ValueError, ZeroDivisionError) as err:
        raise CalibrationError(
            f"{where}: expected one and two layers, one token and several, two sizes of head; "
            f"found a cell missing ({err}). Measure it again with `make calibrate`."
        ) from err
    if len(units) < 2 or len(deep) < 2 or min(*first, *step) <= 0:
        raise CalibrationError(
            f"{where}: expected at least two sizes and times that grow with the tokens, found "
            f"otherwise. Measure it again with `make calibrate`, on a quiet machine."
        )
    # What a line through the smallest two sizes leaves for a model of no units; in noise it might
    # be more than another size takes in all.
    slope = (first[1] - first[0]) / (units[1] - units[0])
    call_us = float(np.clip(first[0] - units[0] * slope, 0.0, 0.9 * min(first)))
    return CostModel(
        units=np.array(units, np.float64),
        call_us=call_us,
        first_us=np.array(first) - call_us,
        step_us=np.array(step),
        projection_units=np.array(deep, np.float64),
        # Noise may make a small difference negative; a product is never free.
        projection_us=np.maximum(projection, 1e-6),
        head_us=max(head, 0.0),
        engine=str(fields.get("engine", "unknown")),
    )


def _index_cells(cells: Any, where: str) -> dict[tuple[int, ...], float]:
    """(units, layers, directions, classes, tokens) to median µs."""
    indexed = {}
    try:
        for cell in cells:
            key = tuple(kind(cell[name]) for name, kind in _CELL_FIELDS.items())
            median_us = float(cell["median_us"])
            if min(key) < 1 or not 0 < median_us < 1e12:
                raise ValueError(f"{cell}")
            indexed[key] = median_us
    except (KeyError, TypeError, ValueError) as err:
        raise CalibrationError(
            f"{where}: expected cells with {', '.join(_CELL_FIELDS)} and median_us, found "
            f"{err!r}. Measure it again with `make calibrate`."
        ) from err
    return indexed


@dataclass(frozen=True, kw_only=True)
class ServingBudget:
    """What a searched model may cost when it is served; None means no bound.

    Attributes:
        max_latency_us: Of the predicted time of a text of `tokens` tokens.
        max_table_mb: Of the gate tables, MB.
        tokens: T, usually the median of the training texts.
        cost_model: Predicts the time; needed with `max_latency_us`.
    """

    max_latency_us: float | None = None
    max_table_mb: float | None = None
    tokens: int = 1
    cost_model: CostModel | None = None

    def admits(self, config: ModelConfig) -> bool:
        """Return whether a model of that shape keeps the budget."""
        if self.max_table_mb is not None and table_megabytes(config) > self.max_table_mb:
            return False
        latency_us = self.predict_us(config)
        if self.max_latency_us is None or latency_us is None:
            return True
        return latency_us <= self.max_latency_us

    def predict_us(self, config: ModelConfig) -> float | None:
        """Return the predicted time of a text, or None without a calibration."""
        return None if self.cost_model is None else self.cost_model.predict_us(config, self.tokens)


def median_tokens(counts: Sequence[int]) -> int:
    """Return the median number of tokens, rounded up."""
    return max(1, int(np.ceil(np.median(np.asarray(counts)))))
