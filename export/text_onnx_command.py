"""`python -m export text-onnx`: an artifact as one graph that reads raw text."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from export.bundle import BundleError, read_artifact
from export.scored_table import publish_file
from export.sizes import format_bytes


@click.command("text-onnx")
@click.argument("artifact", type=click.Path(path_type=Path, file_okay=False))
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
def text_onnx_command(artifact: Path, out: Path) -> None:
    """Write an artifact as one ONNX file that reads raw text.

    It is model.onnx with the tokenizer in front, for onnxruntime with the package
    onnxruntime-extensions (extra `text-onnx`). The golden probes are replayed on it before OUT is
    written; exit code 1 means that one got another answer.

    Example: python -m export text-onnx build/artifacts/wordnet31/1 model_text.onnx
    """
    # It imports ONNX, which the other commands do without.
    from export.text_onnx import MissingExtensionsError, TextOnnxError, export_text_onnx

    try:
        result = export_text_onnx(read_artifact(artifact))
        content = result.model.SerializeToString(deterministic=True)
        with publish_file(out, out.with_name(f".{out.name}.partial")) as file:
            file.write(content)
    except TextOnnxError as err:
        click.echo(f"error: {err}", err=True)
        sys.exit(1)
    except (BundleError, MissingExtensionsError, OSError) as err:
        click.echo(f"error: {err}", err=True)
        sys.exit(2)
    click.echo(
        f"{out}: {format_bytes(len(content))}, text in; within {result.max_difference:.1e} of the "
        f"trained model on {result.probes} golden probes"
    )
