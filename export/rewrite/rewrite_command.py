"""`python -m export rewrite-onnx`: a Keras file in, an ONNX file with fused GRUs out."""

from __future__ import annotations

import importlib
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from export.rewrite.errors import ParityError, RewriteError
from export.scored_table import publish_file
from export.sizes import format_bytes
from pipeline.run_folder import import_tensorflow

if TYPE_CHECKING:
    from export.rewrite.bench import Timing


def _load(path: Path, modules: Sequence[str]) -> Any:
    """Load a Keras model, without the right to run code that the file brings.

    Args:
        path: The file.
        modules: Python modules to import first: those that register the model's own classes.

    Raises:
        RewriteError: A module cannot be imported, or it is no model that this Keras reads.
    """
    import_tensorflow()
    import keras

    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as err:
            raise RewriteError(
                f"--import {module}: expected a Python module, found: {err}. Call this from the "
                "folder that holds it, or install it."
            ) from err
    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except (OSError, TypeError, ValueError, KeyError, AttributeError) as err:
        lines = str(err).strip().splitlines() or [type(err).__name__]
        # Keras wraps what is missing into sentences about its own methods.
        reason = next((line for line in lines if "Could not locate" in line), lines[0])
        raise RewriteError(
            f"{path}: expected a Keras model of layers that Keras knows, found: {reason.strip()} "
            "Models with classes of your own: register them (keras.saving."
            "register_keras_serializable) and name their module with --import."
        ) from err


def _print_timings(console: Console, timings: list[Timing]) -> None:
    """Print one line for each length."""
    for timing in timings:
        console.print(
            f"batch 1, {timing.steps} steps: {timing.fused_us:.0f} µs, tf2onnx alone "
            f"{timing.loop_us:.0f} µs: {timing.loop_us / timing.fused_us:.1f}x",
            highlight=False,
        )


@click.command("rewrite-onnx")
@click.argument("model", type=click.Path(path_type=Path, exists=True))
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--force", is_flag=True, help="Replace OUT if it is there.")
@click.option(
    "--import",
    "modules",
    multiple=True,
    metavar="MODULE",
    help="Import a Python module first: one that registers the model's own classes.",
)
@click.option("--bench", is_flag=True, help="Also time it beside what tf2onnx alone makes of it.")
def rewrite_command(
    model: Path, out: Path, force: bool, modules: tuple[str, ...], bench: bool
) -> None:
    """Turn any Keras 3 model with GRU layers into ONNX with fused GRU operators.

    MODEL is a .keras file (or .h5), not of this project's making: functional or Sequential, GRUs
    stacked, bidirectional, masked in any way, among convolutions, attention, dense layers. tf2onnx
    makes a Loop of each GRU, several times slower at batch 1; here each becomes one GRU operator,
    whose answers are compared with Keras's on random inputs before OUT is written. Exit code 1
    means that they differ, 2 that the model cannot be said without a loop; every reason is given.

    Example: python -m export rewrite-onnx classifier.keras classifier.onnx
    """
    console = Console(soft_wrap=True)
    try:
        if out.exists() and not force:
            raise RewriteError(f"{out}: expected no file there, found one. Pass --force.")
        if not out.parent.is_dir():
            raise RewriteError(f"{out.parent}: expected a folder, found none. Make it first.")
        with Console(stderr=True).status("Loading") as status:
            loaded = _load(model, modules)
            from export.rewrite.conversion import convert_model
            from export.rewrite.parity import check_parity

            status.update("Converting")
            proto = convert_model(loaded)
            status.update("Comparing")
            parity = check_parity(loaded, proto)
            content = proto.SerializeToString(deterministic=True)
            with publish_file(out, out.with_name(f".{out.name}.partial")) as file:
                file.write(content)
            timings: list[Timing] = []
            if bench:
                from export.rewrite.bench import measure_beside_tf2onnx

                status.update("Timing")
                timings = measure_beside_tf2onnx(loaded, proto)
    except ParityError as err:
        click.echo(f"error: {err}", err=True)
        sys.exit(1)
    except (RewriteError, OSError) as err:
        click.echo(f"error: {err}", err=True)
        sys.exit(2)
    operators = Counter(node.op_type for node in proto.graph.node)
    for end, values in (("in", proto.graph.input), ("out", proto.graph.output)):
        shown = ", ".join(_describe(value) for value in values)
        console.print(f"{end}: {shown}", highlight=False, markup=False)
    console.print(
        f"{out}: {format_bytes(len(content))}, {operators.total()} operators, {operators['GRU']} "
        f"of them GRU, no loop; within {parity.max_difference:.1e} of Keras on {parity.batches} "
        "random batches",
        highlight=False,
        markup=False,
    )
    _print_timings(console, timings)


def _describe(value: Any) -> str:
    """Say one input or output: its name, and each axis's name where it is open, else its length."""
    axes = (str(size.dim_param or size.dim_value) for size in value.type.tensor_type.shape.dim)
    return f"{value.name} ({', '.join(axes)})"
