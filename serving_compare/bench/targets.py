"""What the product promises of its speed, and whether this machine's benchmark keeps it.

The promises about the kernel are about CPUs with AVX-512: elsewhere the ratio is told, but the row
neither holds nor fails. The others are about every machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from serving_compare.bench.forms import EXACT_NATIVE, NATIVE

Json = dict[str, Any]

WIDE = "avx512f"
"""The CPU flag that the promises about the kernel need."""
INT16 = f"{NATIVE} int16"
LATENCY_TARGETS = {
    # (H, ours, rival, tokens): times faster
    (128, "float32", "onnx", 20): 3.0,
    (128, "float32", "onnx", 2): 8.0,
    (128, "float32", "saved_model", 20): 45.0,
    (128, INT16, "onnx", 20): 5.5,
    (256, "float32", "onnx", 20): 2.4,
    (256, "float32", "onnx", 2): 5.0,
    (256, "float32", "saved_model", 20): 14.0,
    (256, INT16, "onnx", 20): 4.5,
}
FLOOR_TARGETS = {128: 0.82, 256: 0.85}
BULK_TARGETS = {
    (128, "onnx"): 2.8,
    (128, "saved_model"): 8.0,
    (256, "onnx"): 2.3,
    (256, "saved_model"): 4.5,
}
BULK_SIZE = "256"
TEXT_TARGETS = {"onnx": 3.0, "saved_model": 40.0}
START_LIMIT_MS = 120.0
MEMORY_LIMIT_MB = 45.0


def list_targets(bench: Mapping[str, Any]) -> list[Json]:
    """Return every promise with what was found.

    Args:
        bench: Content of bench.json.

    Returns:
        One object a promise: `name`, `unit`, `target`, `is_limit` (the value may not exceed the
        target, instead of having to reach it), `value` and `ci95` or None, `held` ("yes", "no",
        "not measurable here", "not measured"), `reason` where it is neither yes nor no, and
        `decided`, whether the interval lies on one side of the target.
    """
    return [
        *_kernel_targets(bench),
        *_text_targets(bench),
        *_start_targets(bench),
    ]


def _judge(
    name: str,
    unit: str,
    target: float,
    found: Mapping[str, Any] | None,
    *,
    value_key: str = "ratio",
    scale: float = 1.0,
    is_limit: bool = False,
    not_here: str | None = None,
    absent: str = "",
) -> Json:
    row: Json = {"name": name, "unit": unit, "target": target, "is_limit": is_limit}
    if found is None:
        return row | {"value": None, "ci95": None, "held": "not measured", "reason": absent,
                      "decided": False}  # fmt: skip
    value = found[value_key] / scale
    interval = found["ci95"] and [bound / scale for bound in found["ci95"]]
    keeps = value <= target if is_limit else value >= target
    decided = interval is not None and not interval[0] <= target <= interval[1]
    return row | {
        "value": value,
        "ci95": interval,
        "held": "not measurable here" if not_here else "yes" if keeps else "no",
        "reason": not_here or "",
        "decided": decided and not not_here,
    }


def _kernel_targets(bench: Mapping[str, Any]) -> Iterator[Json]:
    not_here = None if WIDE in bench["machine"]["flags"] else "this CPU has no AVX-512"
    for (units, ours, rival, tokens), target in LATENCY_TARGETS.items():
        row = _find(bench, units, "warm", str(tokens))
        yield _judge(
            f"H={units}, {tokens} tokens: {ours} against {rival}",
            "x",
            target,
            _speedup(bench, units, row, ours, rival),
            not_here=not_here,
            absent=_why_absent(bench, units, ours),
        )
    for units, target in FLOOR_TARGETS.items():
        model = bench["models"].get(str(units))
        step = model and model["steps"].get(model["float32"])
        yield _judge(
            f"H={units}: share of a float32 step that reading and gates explain",
            "",
            target,
            step and step["floor_share"],
            not_here=not_here,
            absent=_why_absent(bench, units, "float32"),
        )
    for (units, rival), target in BULK_TARGETS.items():
        row = _find(bench, units, "bulk", BULK_SIZE)
        yield _judge(
            f"H={units}, batch {BULK_SIZE}: float32 against {rival}",
            "x",
            target,
            _speedup(bench, units, row, "float32", rival),
            not_here=not_here,
            absent=_why_absent(bench, units, "float32"),
        )


def _text_targets(bench: Mapping[str, Any]) -> Iterator[Json]:
    text = bench["text"]
    for rival, target in TEXT_TARGETS.items():
        yield _judge(
            f"Text to top 3: {NATIVE} against {rival}",
            "x",
            target,
            text and text["speedups"].get(NATIVE, {}).get(rival),
            absent="no artifact" if text is None else "the native engine is not built",
        )


def _start_targets(bench: Mapping[str, Any]) -> Iterator[Json]:
    for interface in ("ids", "text"):
        starts = bench["cold_start"] and bench["cold_start"].get(interface)
        found = starts and starts.get(NATIVE)
        absent = "no artifact" if not starts else "the native engine is not built"
        yield _judge(
            f"Cold start to the first answer, {interface} in",
            "ms",
            START_LIMIT_MS,
            found and found["total_ms"],
            value_key="median",
            is_limit=True,
            absent=absent,
        )
        yield _judge(
            f"Memory beyond interpreter and NumPy, {interface} in",
            "MB",
            MEMORY_LIMIT_MB,
            found and found["beyond_null_bytes"],
            value_key="median",
            scale=1e6,
            is_limit=True,
            absent=absent,
        )


def _find(bench: Mapping[str, Any], units: int, kind: str, size: str) -> Json | None:
    model = bench["models"].get(str(units))
    row: Json | None = model and model[kind].get(size)
    return row


def _speedup(
    bench: Mapping[str, Any], units: int, row: Json | None, ours: str, rival: str
) -> Json | None:
    """How many times faster ours is than the rival's fastest form."""
    if row is None:
        return None
    form = bench["models"][str(units)]["float32"] if ours == "float32" else ours
    fastest = row["best"].get(rival, rival)
    found: Json | None = row["speedups"].get(form, {}).get(fastest)
    return found


def _why_absent(bench: Mapping[str, Any], units: int, ours: str) -> str:
    model = bench["models"].get(str(units))
    if model is None:
        return f"no model with {units} units"
    form = EXACT_NATIVE[-1] if ours == "float32" else ours
    reason: str = model["unavailable"].get(form, "not among the sizes of this run")
    return reason
