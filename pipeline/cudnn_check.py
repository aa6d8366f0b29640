"""Which settings keep a GRU on cuDNN, and `python -m pipeline cudnn-check`, which looks at a model.

Keras 3 decides at the call: `keras.layers.GRU` runs as one cuDNN kernel on a GPU if every condition
here holds, and as a loop of small kernels if one does not. Nothing says so then but the time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import click
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from pipeline.config import RecurrentKind


@dataclass(frozen=True, kw_only=True)
class CudnnCondition:
    """One setting that Keras looks at.

    Attributes:
        setting: Its name in `keras.layers.GRU`, or what it is about.
        wanted: The only value cuDNN has; None where it is no setting of the layer.
        reason: Why no other.
    """

    setting: str
    wanted: Any
    reason: str


CONDITIONS = (
    CudnnCondition(setting="activation", wanted="tanh", reason="cuDNN computes no other"),
    CudnnCondition(
        setting="recurrent_activation", wanted="sigmoid", reason="cuDNN computes no other"
    ),
    CudnnCondition(setting="use_bias", wanted=True, reason="cuDNN's layer always has biases"),
    CudnnCondition(
        setting="reset_after", wanted=True, reason="cuDNN applies the reset gate behind the product"
    ),
    CudnnCondition(
        setting="recurrent_dropout",
        wanted=0.0,
        reason="cuDNN has none within a layer; dropout of inputs is done before it",
    ),
    CudnnCondition(setting="unroll", wanted=False, reason="the loop over time is inside cuDNN"),
)
"""What `keras.layers.GRU` must be."""
DATA_CONDITIONS = (
    CudnnCondition(
        setting="padding on the right only",
        wanted=None,
        reason="cuDNN takes one length a row; Keras checks it at run time. dataset.py pads so",
    ),
    CudnnCondition(
        setting="no text of length 0",
        wanted=None,
        reason="cuDNN fails on it; here an empty text is one UNK",
    ),
    CudnnCondition(
        setting="no XLA (--jit-compile off)",
        wanted=None,
        reason="a layer on cuDNN cannot be compiled; Keras turns XLA off for the whole model",
    ),
)
"""What must hold beside the layer, and where this pipeline sees to it."""


def list_obstacles(settings: Mapping[str, Any], *, kind: RecurrentKind = "layer") -> list[str]:
    """Return why a recurrent layer would not run on cuDNN; empty means that it would.

    Args:
        settings: `get_config()` of the layer, activations by name; what it leaves out has Keras's
            default.
        kind: `layer` for `keras.layers.GRU`, `cell` for `RNN(GRUCell)`, `hoisted` for `FastGRU`;
            `auto` is `layer` wherever there is a GPU.
    """
    obstacles = []
    if kind in ("cell", "hoisted"):
        name = "RNN(GRUCell)" if kind == "cell" else "FastGRU"
        obstacles.append(f"{name} runs step by step; only keras.layers.GRU is one cuDNN kernel")
    for condition in CONDITIONS:
        found = settings.get(condition.setting, condition.wanted)
        if found != condition.wanted:
            obstacles.append(
                f"{condition.setting}: expected {condition.wanted!r}, found {found!r}; "
                f"{condition.reason}"
            )
    return obstacles


@click.command("cudnn-check")
@click.option("--cell", type=click.Choice(get_args(RecurrentKind)), default="layer")
@click.option("--layers", type=click.IntRange(1, 8), default=1, show_default=True)
@click.option("--bidirectional/--unidirectional", default=True, show_default=True)
@click.option("--jit-compile/--no-jit-compile", default=False, show_default=True)
@click.option("--gru-dropout", default=0.0, show_default=True)
@click.option("--recurrent-dropout", default=0.0, show_default=True)
def cudnn_check(
    cell: RecurrentKind,
    layers: int,
    bidirectional: bool,
    jit_compile: bool,
    gru_dropout: float,
    recurrent_dropout: float,
) -> None:
    """Build the model these options give and say whether a GPU would run its GRUs on cuDNN.

    Looks at the layers themselves, not at the options. Exit code 1 where one would not.

    Example: python -m pipeline cudnn-check --recurrent-dropout 0.1
    """
    from pipeline.run_folder import import_tensorflow

    tensorflow = import_tensorflow()
    from pipeline.config import ModelConfig
    from pipeline.model import build_model, list_recurrent_layers

    console = Console()
    config = ModelConfig(
        vocab_size=9,
        num_classes=2,
        layers=layers,
        bidirectional=bidirectional,
        gru_dropout=gru_dropout,
        recurrent_dropout=recurrent_dropout,
    )
    model = build_model(config, cell=cell)
    obstacles = {
        layer.name: list_obstacles(_read_settings(layer), kind=cell)
        for layer in list_recurrent_layers(model)
    }
    if jit_compile:
        for reasons in obstacles.values():
            reasons.append(
                "jit_compile: expected no XLA, found it on; " + DATA_CONDITIONS[2].reason
            )
    table = Table("condition", "needed", "why", box=SIMPLE)
    for condition in (*CONDITIONS, *DATA_CONDITIONS):
        needed = "" if condition.wanted is None else repr(condition.wanted)
        table.add_row(condition.setting, needed, condition.reason)
    console.print(table)
    for name, reasons in obstacles.items():
        verdict = "would run on cuDNN" if not reasons else "would not run on cuDNN:"
        console.print(f"{name}: {verdict}", highlight=False)
        for reason in reasons:
            console.print(f"  - {reason}", highlight=False, soft_wrap=True)
    if not tensorflow.config.list_physical_devices("GPU"):
        console.print("This machine shows TensorFlow no GPU; here the loop runs on the CPU.")
    if any(obstacles.values()):
        raise SystemExit(1)


def _read_settings(layer: Any) -> dict[str, Any]:
    """`get_config()` of a GRU, or of the cell in an RNN."""
    settings = layer.get_config()
    inner: dict[str, Any] = settings.get("cell", {}).get("config", settings)
    return inner
