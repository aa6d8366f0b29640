"""What a legacy weights file means as one of our models, or every reason why it is none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.config import ModelConfig, Pooling
from pipeline.legacy.cudnn_layout import Float32Array, GruArrays, to_keras_gru
from pipeline.legacy.weights_file import LegacyLayer, LegacyWeights, LegacyWeightsError

SUPPORTED = (
    "Supported: Embedding -> GRU, CuDNNGRU or Bidirectional of them, one or more -> [global max or "
    "average pooling] -> [ReLU] -> Dense softmax; dropout anywhere."
)
_POOLING: Mapping[str, Pooling] = {
    "GlobalMaxPooling1D": "max",
    "GlobalMaxPool1D": "max",
    "GlobalAveragePooling1D": "mean",
    "GlobalAvgPool1D": "mean",
}
_POOLING_NAMES: Mapping[str, Pooling] = {
    "global_max_pooling1d": "max",
    "global_average_pooling1d": "mean",
}
_TRAINING_ONLY = {"InputLayer", "Dropout", "SpatialDropout1D", "GaussianNoise", "GaussianDropout"}
_RECURRENT = {"GRU", "CuDNNGRU"}
_GRU_SETTINGS: Mapping[str, Any] = {
    "activation": "tanh",
    "recurrent_activation": "sigmoid",
    "reset_after": True,
    "use_bias": True,
    "go_backwards": False,
    "stateful": False,
    "time_major": False,
}


@dataclass(frozen=True, kw_only=True)
class LegacyModel:
    """A legacy model in our terms.

    Attributes:
        config: Its shape.
        embedding: (V, E) float32.
        grus: One entry a layer, of one direction or two, forward first.
        head_kernel: (D, C) float32.
        head_bias: (C,) float32.
        assumptions: What the file does not say and was taken to be so, a sentence each.
    """

    config: ModelConfig
    embedding: Float32Array
    grus: list[list[GruArrays]]
    head_kernel: Float32Array
    head_bias: Float32Array
    assumptions: list[str]


def interpret_weights(
    weights: LegacyWeights, *, pooling: Pooling | None = None, relu: bool | None = None
) -> LegacyModel:
    """Return the model that a file describes.

    Args:
        weights: What the file holds.
        pooling: How the outputs become one state; None takes it from the file.
        relu: Whether a ReLU stands before the head; None takes it from the file.

    Raises:
        LegacyWeightsError: The model is not of our family; says every reason.
    """
    problems: list[str] = []
    embedding, grus, head = _take_layers(weights.layers, problems)
    found_pooling, found_relu, assumptions = _find_shape(weights, problems)
    for option, given, found in (
        ("--pooling", pooling, found_pooling),
        ("--relu", relu, found_relu),
    ):
        if weights.layer_configs is not None and given not in (None, found):
            problems.append(f"{option}: expected {found!r} as in the file, found {given!r}")
    if problems or embedding is None or head is None:
        lines = "".join(f"\n  - {problem}." for problem in problems)
        raise LegacyWeightsError(f"the model cannot be imported:{lines}\n{SUPPORTED}")
    if pooling is not None and relu is not None:
        assumptions = []
    config = ModelConfig(
        vocab_size=embedding.shape[0],
        embed_dim=embedding.shape[1],
        num_classes=head["kernel"].shape[1],
        units=grus[0][0].recurrent_kernel.shape[0],
        layers=len(grus),
        bidirectional=len(grus[0]) == 2,
        pooling=pooling or found_pooling,
        relu=found_relu if relu is None else relu,
    )
    return LegacyModel(
        config=config,
        embedding=embedding,
        grus=grus,
        head_kernel=head["kernel"],
        head_bias=head["bias"],
        assumptions=assumptions,
    )


def _take_layers(
    layers: list[LegacyLayer], problems: list[str]
) -> tuple[Float32Array | None, list[list[GruArrays]], dict[str, Float32Array] | None]:
    """Embedding, recurrent layers, head; what does not fit is added to `problems`."""
    embedding: Float32Array | None = None
    grus: list[list[GruArrays]] = []
    head: dict[str, Float32Array] | None = None
    for layer in layers:
        names = set(layer.arrays)
        where = f"layer {layer.name}"
        if names == {"embeddings"} and embedding is None and not grus:
            embedding = layer.arrays["embeddings"]
        elif any(name.endswith("recurrent_kernel") for name in names) and head is None:
            try:
                grus.append(_take_directions(layer))
            except (ValueError, KeyError) as err:
                problems.append(f"{where}: {err}".removesuffix("."))
        elif names == {"kernel", "bias"} and layer.arrays["kernel"].ndim == 2 and head is None:
            head = layer.arrays
        else:
            problems.append(
                f"{where}: expected an embedding first, then GRU layers, then one Dense with a "
                f"bias, found weights {', '.join(sorted(names))} there"
            )
    if not problems:
        problems += _check_widths(embedding, grus, head)
    return embedding, grus, head


def _take_directions(layer: LegacyLayer) -> list[GruArrays]:
    sides = sorted({name.rpartition("/")[0] for name in layer.arrays}, reverse=True)
    if not (sides == [""] or [side.partition("_")[0] for side in sides] == ["forward", "backward"]):
        raise ValueError(f"expected one direction, or forward and backward, found {sides}")
    directions = []
    for side in sides:
        prefix = f"{side}/" if side else ""
        missing = {"kernel", "recurrent_kernel", "bias"} - {
            name.removeprefix(prefix) for name in layer.arrays if name.startswith(prefix)
        }
        if missing:
            raise ValueError(f"expected kernel, recurrent_kernel and bias, found no {missing}")
        directions.append(
            to_keras_gru(
                layer.arrays[f"{prefix}kernel"],
                layer.arrays[f"{prefix}recurrent_kernel"],
                layer.arrays[f"{prefix}bias"],
            )
        )
    return directions


def _check_widths(
    embedding: Float32Array | None,
    grus: list[list[GruArrays]],
    head: dict[str, Float32Array] | None,
) -> Iterator[str]:
    if embedding is None or embedding.ndim != 2:
        yield "expected an Embedding (V, E) as the first layer with weights, found none"
        return
    if not grus or head is None:
        yield "expected GRU layers and a Dense behind them, found not both"
        return
    shapes = {(len(layer), array.recurrent_kernel.shape[0]) for layer in grus for array in layer}
    if len(shapes) != 1:
        yield f"expected every GRU layer alike, found (directions, units) {sorted(shapes)}"
        return
    ((directions, units),) = shapes
    width = embedding.shape[1]
    for number, layer in enumerate(grus):
        for array in layer:
            if array.kernel.shape[0] != width:
                yield (
                    f"GRU layer {number}: expected a kernel for {width} inputs, found "
                    f"{array.kernel.shape[0]}"
                )
        width = directions * units
    if head["kernel"].shape[0] != width or head["bias"].shape != head["kernel"].shape[1:]:
        yield (
            f"Dense: expected a kernel ({width}, C) and a bias (C,), found "
            f"{head['kernel'].shape} and {head['bias'].shape}"
        )


def _find_shape(weights: LegacyWeights, problems: list[str]) -> tuple[Pooling, bool, list[str]]:
    """Pooling, ReLU, and what was assumed: from the model's description, else from names."""
    if weights.layer_configs is not None:
        pooling, relu = _read_description(weights.layer_configs, problems)
        return pooling, relu, []
    found = [mode for prefix, mode in _POOLING_NAMES.items()
             if any(name.startswith(prefix) for name in weights.layer_names)]  # fmt: skip
    has_relu = any(name.startswith(("re_lu", "relu")) for name in weights.layer_names)
    pooling = found[0] if found else "last"
    return (
        pooling,
        has_relu,
        [
            f"pooling {pooling} and {'a' if has_relu else 'no'} ReLU before the head, going by the "
            "names of the layers: the file describes no model (--pooling and --relu say it)",
            "tanh, sigmoid and a softmax head, as Keras has them by default",
        ],
    )


def _read_description(layers: list[dict[str, Any]], problems: list[str]) -> tuple[Pooling, bool]:
    pooling: Pooling = "last"
    relu = False
    softmax = False
    returns: list[bool] = []
    for layer in layers:
        kind, settings = layer["class_name"], layer["config"]
        name = f"layer {settings.get('name', kind)}"
        if kind == "Bidirectional":
            if settings.get("merge_mode") != "concat":
                problems.append(
                    f"{name}: expected merge_mode 'concat', found {settings.get('merge_mode')!r}"
                )
            kind, settings = settings["layer"]["class_name"], settings["layer"]["config"]
        if kind in _RECURRENT:
            returns.append(bool(settings.get("return_sequences")))
            problems += [
                f"{name}: expected {key} {wanted!r}, found {settings[key]!r}"
                for key, wanted in _GRU_SETTINGS.items()
                if settings.get(key, wanted) != wanted
            ]
        elif kind in _POOLING:
            pooling = _POOLING[kind]
        elif kind == "ReLU" or (kind == "Activation" and settings.get("activation") == "relu"):
            relu = True
        elif kind == "Dense":
            softmax = settings.get("activation") == "softmax"
            if not softmax and settings.get("activation") != "linear":
                problems.append(
                    f"{name}: expected activation 'softmax', found {settings.get('activation')!r}"
                )
        elif kind == "Softmax" or (
            kind == "Activation" and settings.get("activation") == "softmax"
        ):
            softmax = True
        elif kind != "Embedding" and kind not in _TRAINING_ONLY:
            problems.append(f"{name}: expected none of its kind, found a {kind}")
    wanted = [True] * (len(returns) - 1) + [pooling != "last"]
    if returns and returns != wanted:
        problems.append(
            f"GRU layers: expected return_sequences {wanted} with pooling {pooling!r}, found "
            f"{returns}"
        )
    if not softmax:
        problems.append("expected a softmax behind the Dense, found none")
    return pooling, relu
