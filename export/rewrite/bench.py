"""The rewritten graph's time beside that of the graph which tf2onnx alone makes of a model.

One thread each, in turns, batch 1, medians of rounds.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
import tensorflow as tf
import tf2onnx

from export.onnx_graph import OPSET
from export.rewrite.parity import make_inputs
from export.rewrite.signature import make_signature, run_flat

LENGTHS = (5, 20, 40)
ROUNDS = 9
ROUND_S = 0.05


@dataclass(frozen=True)
class Timing:
    """Median microseconds a call, at one length."""

    steps: int
    fused_us: float
    loop_us: float


def convert_plainly(model: Any) -> onnx.ModelProto:
    """Convert a model as tf2onnx does it by itself, with a Loop for each GRU."""
    proto, _ = tf2onnx.convert.from_function(
        tf.function(lambda *inputs: run_flat(model, inputs), autograph=False),
        input_signature=make_signature(model),
        opset=OPSET,
    )
    return proto


def _make_call(proto: onnx.ModelProto, arrays: list[Any]) -> Callable[[], Any]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    feeds = {value.name: array for value, array in zip(session.get_inputs(), arrays, strict=True)}
    return lambda: session.run(None, feeds)


def _measure_us(call: Callable[[], Any]) -> float:
    """Return microseconds a call over about `ROUND_S`."""
    calls, start = 0, time.perf_counter_ns()
    while (spent := time.perf_counter_ns() - start) < ROUND_S * 1e9:
        call()
        calls += 1
    return spent / calls / 1e3


def measure_beside_tf2onnx(model: Any, proto: onnx.ModelProto) -> list[Timing]:
    """Time both graphs at each of `LENGTHS`, or at the model's own if it is fixed."""
    plain = convert_plainly(model)
    axes = [size for spec in make_signature(model) for size in spec.shape[1:2]]
    lengths = LENGTHS if None in axes else tuple({size for size in axes if size})
    timings = []
    for steps in lengths:
        arrays = list(make_inputs(model, 1, steps, np.random.default_rng(1), padded=False).values())
        fused, loop = _make_call(proto, arrays), _make_call(plain, arrays)
        fused(), loop()  # the first call allocates
        rounds = [(_measure_us(fused), _measure_us(loop)) for _ in range(ROUNDS)]
        timings.append(
            Timing(
                steps,
                statistics.median(one for one, _ in rounds),
                statistics.median(other for _, other in rounds),
            )
        )
    return timings
