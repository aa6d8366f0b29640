"""An untrained model without TensorFlow, and raw results with known answers."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from export.lookup import Probe
from export.lookup.native import is_available
from export.onnx_graph import build_onnx, write_onnx
from export.untrained import write_lookup_folders
from export.weights import expected_shapes, take_weights
from pipeline.run_folder import ModelConfig
from serving_compare.bench.forms import FormFiles
from serving_compare.bench.models import compute_reference, read_weights
from serving_compare.bench.profile import QUICK
from serving_compare.bench.report import summarise_parts
from serving_compare.results import Results

VOCAB, UNITS, CLASSES = 64, 8, 3

needs_native = pytest.mark.skipif(not is_available(), reason="the native kernel is not built")


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> FormFiles:
    """What `export.untrained` writes, but for what needs TensorFlow."""
    folder = tmp_path_factory.mktemp("untrained")
    config = ModelConfig(
        vocab_size=VOCAB,
        num_classes=CLASSES,
        embed_dim=5,
        units=UNITS,
        bidirectional=False,
        pooling="last",
        relu=False,
    )
    random = np.random.default_rng(0)
    arrays = {
        path: random.normal(0, 0.4, shape).astype(np.float32)
        for path, shape in expected_shapes(config).items()
    }
    np.savez(folder / "weights.npz", allow_pickle=False, **arrays)
    weights = take_weights(config, arrays)
    unknown = np.exp(compute_reference(read_weights(folder / "weights.npz"), np.array([[1]])))[0]
    write_lookup_folders(folder, weights, Probe("", (1,), tuple(unknown.tolist())))
    write_onnx(folder / "model.onnx", build_onnx(weights, {}))
    return FormFiles(folder=str(folder), num_classes=CLASSES, litert="")


class PartMaker:
    """Makes raw results whose medians are given."""

    def __init__(self, processes: int) -> None:
        self.processes = processes

    def make(
        self, cells_us: Mapping[str, Mapping[str, float]], *, loops: int = 1, **changes: Any
    ) -> Results:
        """Form to cell to the median of process 0; each further process is 1 % slower."""
        processes, samples = [], {}
        for number in range(self.processes):
            for form, cells in cells_us.items():
                entry = {"inner_loops": loops, "warm_up_calls": 8, "is_warm": True}
                processes.append(
                    {
                        "round": number,
                        "backend": form,
                        "timer_cost_ns": 50,
                        "cells": dict.fromkeys(cells, entry),
                    }
                )
                for cell, median_us in cells.items():
                    median = round(median_us * 1000 * (1 + number / 100)) * loops
                    samples[number, form, cell] = np.array([median - 1, median, median + 1])
        return self._fill(processes, samples, list(cells_us), changes)

    def make_starts(self, starts: Mapping[str, tuple[float, float]]) -> Results:
        """Form to (ms in all, peak MB), the same in every process."""
        processes = [
            {
                "round": number,
                "backend": form,
                "cells": {},
                "stages_ns": {
                    "start": 10_000_000,
                    "import": 5_000_000,
                    "load": 5_000_000,
                    "first": int((total_ms - 20) * 1e6),
                },
                "memory": {"peak_bytes": int(peak_mb * 1e6)},
            }
            for number in range(self.processes)
            for form, (total_ms, peak_mb) in starts.items()
        ]
        return self._fill(processes, {}, list(starts), {})

    def _fill(
        self, processes: list[Any], samples: dict[Any, Any], forms: list[str], changes: Any
    ) -> Results:
        profile = QUICK.to_json() | {
            "processes": self.processes,
            "lengths": [1, 20],
            "cold_lengths": [20],
            "batch_sizes": [256],
        }
        fields: dict[str, Any] = {
            "name": "bench-made-up",
            "created_utc": "2026-01-01T12:00:00+00:00",
            "settings": {"profile": profile, "seed": 1},
            "artifact": {"name": "tiny", "version": 1, "manifest_sha256": "0" * 64},
            "machine": {
                "cpu": "Made-up CPU",
                "cores": 2,
                "flags": ["avx2", "avx512f"],
                "caches": {"L2 Unified": "512K"},
                "system": "Linux",
                "kernel": "6.1",
                "load_average": [0.1, 0.1, 0.1],
            },
            "versions": {"python": "3.11.7"},
            "workload": {"texts": 100, "source": "the file given", "word_table": True},
            "backends": forms,
            "agreement": {},
            "accuracy": {},
            "sizes": {},
            "processes": processes,
            "samples": samples,
        }
        return Results(**(fields | changes))


FLOOR_US = {"read float32": 0.9, "read int16": 0.4, "read int8": 0.2, "gates": 0.1}
MODEL_US = {
    # float32: (25 - 6) / 19 = 1 µs a step, which its floor explains whole
    "lookup native avx512": {"warm_1": 6.0, "warm_20": 25.0, "cold_20": 50.0, "bulk_256": 2560.0},
    "lookup native int16": {"warm_1": 6.0, "warm_20": 15.5, "cold_20": 30.0, "bulk_256": 1280.0},
    "lookup numpy": {"warm_1": 8.0, "warm_20": 100.0, "cold_20": 200.0, "bulk_256": 5120.0},
    "onnx": {"warm_1": 16.0, "warm_20": 80.0, "cold_20": 160.0},
    "onnx static": {"warm_1": 15.0, "warm_20": 76.0, "cold_20": 161.0},
    "saved_model": {"warm_1": 500.0, "warm_20": 1300.0, "cold_20": 2000.0},
    "null": {"warm_1": 0.1, "warm_20": 0.1, "cold_20": 0.2},
    **{f"onnx {way}": {"bulk_256": us} for way, us in (("whole", 15360.0), ("sorted 8", 7680.0))},
    "saved_model whole": {"bulk_256": 25600.0},
    **{name: {"step": us} for name, us in FLOOR_US.items()},
}
MODEL_FORMS = [name for name, cells in MODEL_US.items() if "warm_1" in cells]


@pytest.fixture(scope="session")
def make_parts() -> Callable[..., dict[str, Results]]:
    """A factory: number of processes to the raw results of all parts, one model with H=128."""

    def make(processes: int = 6, **changes: Any) -> dict[str, Results]:
        maker = PartMaker(processes)
        profile = maker.make({}).settings["profile"] | {"units": [128]}
        common = {"settings": {"profile": profile, "seed": 1}} | changes
        model = maker.make(
            MODEL_US,
            loops=8,
            backends=MODEL_FORMS,
            artifact={
                "model": {"units": 128, "vocab_size": 15000, "embed_dim": 128, "num_classes": 45},
                "unavailable": {"lookup native avx2": "a reason", "litert": "not installed"},
            },
            agreement={form: {"max_abs_log_probability_diff": 1e-7} for form in MODEL_FORMS[:-1]},
            **common,
        )
        text = maker.make(
            {name: {"text": us} for name, us in
             (("lookup native", 10.0), ("onnx", 40.0), ("saved_model", 300.0))},
            **common,
        )  # fmt: skip
        starts = maker.make_starts(
            {"lookup native": (100.0, 60.0), "onnx": (300.0, 90.0), "null": (50.0, 25.0)}
        )
        return {"model-128": model, "text": text, "cold-ids": starts, "cold-text": starts}

    return make


@pytest.fixture(scope="session")
def make_bench(make_parts: Callable[..., dict[str, Results]]) -> Callable[..., dict[str, Any]]:
    """A factory: number of processes to the content of bench.json, computed once and copied."""

    @functools.cache
    def build(processes: int) -> dict[str, Any]:
        return summarise_parts(make_parts(processes))

    def make(processes: int = 6) -> dict[str, Any]:
        return copy.deepcopy(build(processes))

    return make
