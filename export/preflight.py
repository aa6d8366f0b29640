"""Every reason a run cannot be exported, found before anything is written.

Looks at the loaded Keras model through `get_config()` and weight paths only, so a model of another
shape, edited by hand or trained by other code, is refused with a full list instead of being
exported wrongly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from export.weights import Float32, expected_shapes
from pipeline.run_folder import ModelConfig, Run

if TYPE_CHECKING:
    import keras

DEFAULT_MAX_TABLE_MB = 1024
MAX_TOKENS_LIMIT = 65_536
"""Of the lookup format, and of the pipeline."""
SUPPORTED = (
    "Supported: Embedding -> [SpatialDropout1D] -> GRU or Bidirectional(GRU) layers -> "
    "[last | max | mean pooling] -> [ReLU] -> [Dropout] -> Dense softmax, as "
    "`pipeline.model.build_model` names them."
)
_GRU_SETTINGS: Mapping[str, object] = {
    "activation": "tanh",
    "recurrent_activation": "sigmoid",
    "use_bias": True,
    "reset_after": True,
    "go_backwards": False,
    "stateful": False,
}
_TRAINING_ONLY = frozenset({"embedding_dropout", "head_dropout"})


class ExportError(Exception):
    """A run that cannot be exported.

    Attributes:
        problems: Every reason found, one sentence each.
    """

    def __init__(self, subject: str, problems: list[str]) -> None:
        self.problems = tuple(problems)
        lines = "".join(f"\n  - {problem}" for problem in problems)
        super().__init__(f"{subject} cannot be exported:{lines}\n{SUPPORTED}")


def table_bytes(config: ModelConfig) -> int:
    """Return the size of the gate tables: directions x V x 3H float32."""
    return config.directions * config.vocab_size * 3 * config.units * 4


def _layer_problems(config: ModelConfig, model: keras.Model) -> Iterator[str]:
    """Compare the layers' names, order and settings with what the config describes."""
    layers = {layer.name: layer for layer in model.layers}
    prefix = "bigru" if config.bidirectional else "gru"
    grus = [f"{prefix}_{index}" for index in range(config.layers)]
    expected = ["embedding", *grus]
    expected += ["pooling"] if config.pooling != "last" else []
    expected += ["relu"] if config.relu else []
    expected += ["head"]
    found = [
        name
        for name, layer in layers.items()
        # Keras adds helper layers for the mask; they hold no weights and compute no state.
        if type(layer).__name__ not in ("InputLayer", "NotEqual") and name not in _TRAINING_ONLY
    ]
    if found != expected:
        yield (f"layers: expected {', '.join(expected)} (from run.json), found {', '.join(found)}.")
    for index, name in enumerate(grus):
        if name in layers:
            returns = config.pooling != "last" or index < config.layers - 1
            yield from _gru_problems(name, layers[name].get_config(), config, returns)
    if "embedding" in layers and not layers["embedding"].get_config().get("mask_zero"):
        yield "layer embedding: expected mask_zero True, found False: padding would be read."
    if "pooling" in layers:
        mode = layers["pooling"].get_config().get("mode")
        if mode != config.pooling:
            yield f"layer pooling: expected mode {config.pooling!r}, found {mode!r}."
    if "relu" in layers:
        settings = layers["relu"].get_config()
        changed = {
            key: settings.get(key)
            for key in ("max_value", "negative_slope", "threshold")
            if settings.get(key)
        }
        if changed:
            yield f"layer relu: expected a plain ReLU, found {changed}."
    if "head" in layers:
        settings = layers["head"].get_config()
        if settings.get("activation") != "softmax" or not settings.get("use_bias"):
            yield (
                "layer head: expected activation 'softmax' and a bias, found activation "
                f"{settings.get('activation')!r}, use_bias {settings.get('use_bias')}."
            )


def _gru_problems(
    name: str, settings: dict[str, Any], config: ModelConfig, returns_sequences: bool
) -> Iterator[str]:
    """Check the settings of one GRU layer; a Bidirectional one is opened."""
    if config.bidirectional:
        if settings.get("merge_mode") != "concat":
            yield (
                f"layer {name}: expected merge_mode 'concat', found {settings.get('merge_mode')!r}."
            )
        inner = (settings.get("layer") or {}).get("config", {})
        backward = (settings.get("backward_layer") or {}).get("config")
        yield from _gru_problems_of(name, inner, config.units, returns_sequences)
        if backward is not None:
            sides = dict(backward, go_backwards=not backward.get("go_backwards"))
            yield from _gru_problems_of(
                f"{name} (backward)", sides, config.units, returns_sequences
            )
        return
    yield from _gru_problems_of(name, settings, config.units, returns_sequences)


def _gru_problems_of(
    name: str, settings: Mapping[str, Any], units: int, returns_sequences: bool
) -> Iterator[str]:
    wanted = {**_GRU_SETTINGS, "units": units, "return_sequences": returns_sequences}
    for key, value in wanted.items():
        if settings.get(key) != value:
            yield f"layer {name}: expected {key} {value!r}, found {settings.get(key)!r}."


def _weight_problems(config: ModelConfig, arrays: Mapping[str, Float32]) -> Iterator[str]:
    """Compare names, shapes, types and values of the weights with what the config describes."""
    expected = expected_shapes(config)
    for path, shape in expected.items():
        if path not in arrays:
            yield f"weight {path}: expected shape {shape}, found none."
            continue
        array = arrays[path]
        if array.shape != shape:
            yield f"weight {path}: expected shape {shape}, found {array.shape}."
        if array.dtype != np.float32:
            yield f"weight {path}: expected float32, found {array.dtype}."
        bad = int(array.size - np.count_nonzero(np.isfinite(array)))
        if bad:
            yield f"weight {path}: expected finite numbers, found {bad} that are not."
    extra = sorted(set(arrays) - set(expected))
    if extra:
        yield f"weights: expected none besides those of run.json, found {', '.join(extra)}."


def _tokenizer_problems(run: Run) -> Iterator[str]:
    """Check that the tokenizer's ids are the model's rows."""
    import sentencepiece

    try:
        processor = sentencepiece.SentencePieceProcessor(
            model_proto=run.tokenizer_path.read_bytes()
        )
    except (RuntimeError, OSError) as err:
        yield f"{run.tokenizer_path}: expected a SentencePiece model, found {err}."
        return
    pieces = processor.GetPieceSize()
    if pieces != run.model.vocab_size:
        yield f"tokenizer.model: expected {run.model.vocab_size} pieces (V), found {pieces}."
    if (processor.pad_id(), processor.unk_id()) != (0, 1):
        yield (
            "tokenizer.model: expected pad id 0 and unknown id 1, found "
            f"{processor.pad_id()} and {processor.unk_id()}."
        )


def _run_problems(run: Run, max_table_mb: int) -> Iterator[str]:
    """Check labels, text length and table size."""
    if len(run.labels) != run.model.num_classes:
        yield f"labels.json: expected {run.model.num_classes} labels, found {len(run.labels)}."
    if len(set(run.labels)) != len(run.labels):
        twice = sorted({label for label in run.labels if run.labels.count(label) > 1})
        yield f"labels.json: expected distinct labels, found {', '.join(twice[:5])} repeated."
    if not 1 <= run.max_tokens <= MAX_TOKENS_LIMIT:
        yield f"run.json max_tokens: expected 1 to {MAX_TOKENS_LIMIT}, found {run.max_tokens}."
    size = table_bytes(run.model)
    if size > max_table_mb * 2**20:
        yield (
            f"gate table: expected at most {max_table_mb} MiB (--max-table-mb), found "
            f"{size / 2**20:.1f} MiB for {run.model.directions} direction(s) x V="
            f"{run.model.vocab_size} x 3H={3 * run.model.units}."
        )


def check_exportable(
    run: Run,
    model: keras.Model,
    arrays: Mapping[str, Float32],
    *,
    max_table_mb: int = DEFAULT_MAX_TABLE_MB,
) -> None:
    """Refuse a run that cannot be exported, with every reason at once.

    Args:
        run: The run as its folder describes it.
        model: Its loaded Keras model.
        arrays: The model's weights by path.
        max_table_mb: Largest gate tables allowed, in MiB.

    Raises:
        ExportError: There is at least one reason; all are listed.
    """
    problems = [
        *_run_problems(run, max_table_mb),
        *_tokenizer_problems(run),
        *_layer_problems(run.model, model),
        *_weight_problems(run.model, arrays),
    ]
    if problems:
        raise ExportError(f"Run {run.name} in {run.folder}", problems)
