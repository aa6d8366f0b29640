"""The card's sections on the model itself: shape, training, and what an answer costs.

Only exact figures: what a machine takes for them is measured by commands that the card names.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from export.model_card.forms import wrap
from export.model_card.markdown import escape_text, format_code, format_table
from export.weights import expected_shapes
from pipeline.run_folder import ModelConfig, Run

_ITEM_BYTES = {"float32": 4, "float16": 2, "int16": 2, "int8": 1}
_SCALE_BYTES = {"float32": 0, "float16": 0, "int16": 4, "int8": 4}
"""Of a row of the gate table: a float32 beside the integers."""


@dataclass(frozen=True, kw_only=True)
class AnswerCost:
    """What an answer costs, counted: multiplications and additions of the matrix products.

    Attributes:
        lookup_token_flops: A token by the lookup tables, all layers and directions.
        graph_token_flops: A token in the other forms, which multiply by the embedding.
        text_flops: The head, once a text.
        table_bytes: Read from the gate tables for a token.
        recurrent_bytes: All recurrent kernels, read anew for every token, from a cache.
    """

    lookup_token_flops: int
    graph_token_flops: int
    text_flops: int
    table_bytes: int
    recurrent_bytes: int


def count_cost(model: ModelConfig, *, table_dtype: str, recurrent_dtype: str) -> AnswerCost:
    """Return what a model of this shape costs, its lookup tables stored so."""
    gates = 3 * model.units
    recurrent = 2 * model.units * gates
    deeper = (model.layers - 1) * 2 * model.pooled_dim * gates
    lookup = model.directions * (model.layers * recurrent + deeper)
    return AnswerCost(
        lookup_token_flops=lookup,
        graph_token_flops=lookup + model.directions * 2 * model.embed_dim * gates,
        text_flops=2 * model.pooled_dim * model.num_classes,
        table_bytes=model.directions
        * (gates * _ITEM_BYTES[table_dtype] + _SCALE_BYTES[table_dtype]),
        recurrent_bytes=model.directions
        * model.layers
        * (
            model.units * gates * _ITEM_BYTES[recurrent_dtype]
            + gates * _SCALE_BYTES[recurrent_dtype]
        ),
    )


def format_cost(model: ModelConfig, compression: Mapping[str, Any]) -> str:
    """Return the section on the cost of an answer."""
    cost = count_cost(
        model,
        table_dtype=compression["table_dtype"],
        recurrent_dtype=compression["recurrent_dtype"],
    )
    rows = [
        ("operations a token, lookup tables", f"{cost.lookup_token_flops:,}"),
        ("operations a token, other forms", f"{cost.graph_token_flops:,}"),
        ("operations a text, the head", f"{cost.text_flops:,}"),
        ("bytes of table read for a token", f"{cost.table_bytes:,}"),
        ("bytes of recurrent kernels, read again for each token", f"{cost.recurrent_bytes:,}"),
    ]
    return "\n\n".join(
        (
            format_table(("", "count"), rows),
            wrap(
                "Operations are the multiplications and additions of the matrix products, exactly; "
                "activations and other work per number are not counted. No time stands here, "
                "because it belongs to a machine: `make compare` measures all forms on yours, "
                "`make bench` the lookup kernel, and the export prints what each compressed option "
                "takes."
            ),
        )
    )


def count_parameters(model: ModelConfig) -> dict[str, int]:
    """Return the trained numbers by part: `embedding`, `GRU`, `head`."""
    counts = {"embedding": 0, "GRU": 0, "head": 0}
    for path, shape in expected_shapes(model).items():
        part = path.partition("/")[0]
        counts[part if part in counts else "GRU"] += math.prod(shape)
    return counts


def format_model(run: Run, provenance: Mapping[str, Any]) -> str:
    """Return the section on the model and its training."""
    model = run.model
    direction = "bidirectional GRU" if model.bidirectional else "GRU"
    layers = f"{model.layers} {direction} layer{'s' if model.layers > 1 else ''}"
    shape = (
        f"Embedding ({model.vocab_size:,} x {model.embed_dim}), {layers} of {model.units} units, "
        f"{model.pooling} pooling, {'ReLU, ' if model.relu else ''}softmax over "
        f"{model.num_classes:,} classes."
    )
    counts = count_parameters(model)
    parts = ", ".join(f"{part} {count:,}" for part, count in counts.items())
    rows = [
        ("shape", shape),
        ("parameters", f"{sum(counts.values()):,} ({parts})"),
        (
            "tokenizer",
            f"SentencePiece, {model.vocab_size:,} pieces; texts are cut to "
            f"{run.max_tokens:,} tokens",
        ),
        ("run", f"{format_code(run.name)}, seed {run.seed}"),
        ("trained with", _format_versions(run.versions)),
        ("exported with", _format_versions(provenance["versions"])),
        ("sha256 of the run", f"`{provenance['run_sha256']}`"),
    ]
    if "examples" in run.accounting:
        rows.insert(4, ("examples seen", f"{run.accounting['examples']:,}"))
    return "\n\n".join(
        (
            format_table(("", ""), rows),
            "Settings of the training:",
            format_table(("setting", "value"), _list_settings(run)),
            wrap(
                "What the training took in time, memory and energy is in the run's `run.json`: "
                "`python -m pipeline runs` lists it."
            ),
        )
    )


def _list_settings(run: Run) -> list[tuple[str, str]]:
    """Return the training's settings and those of the model that only training uses."""
    settings = {
        **run.training,
        **{key: value for key, value in run.model.to_json().items() if "dropout" in key},
    }
    return [
        (format_code(key), format_code(_show_setting(key, value)))
        for key, value in sorted(settings.items())
        if value is not None and key != "seed"
    ]


def _show_setting(key: str, value: object) -> str:
    # A path tells of a machine; the file's checksum is a setting of its own.
    return PurePath(str(value)).name if key == "pretrained_embeddings" else str(value)


def _format_versions(versions: Mapping[str, str]) -> str:
    known = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    return escape_text(known) or "not recorded"
