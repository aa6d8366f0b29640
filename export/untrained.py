"""Every form of a classifier that nobody trained, for timing: `python -m export.untrained --help`.

How fast a form is depends on the shape of the model and not on what it has learned, so
microbenchmarks need no data and no training: random weights as Keras draws them, exported by the
same code as a trained run. There is no tokenizer and nothing is published; the folder holds

    saved_model/  model.onnx  oracle/model_tf2onnx.onnx  lookup/   as in an artifact
    lookup_int16/  lookup_int8/            the tables with compressed recurrent weights
    weights.npz                            Keras's arrays by path
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import click
import numpy as np

from export import bundle
from export.compress import compress_arrays
from export.fold import fold_weights
from export.lookup import LookupConfig, Probe, write_lookup
from export.lookup.config import RecurrentDtype
from export.lookup.manifest import TOLERANCE
from export.onnx_graph import build_onnx, write_onnx
from export.tf2onnx_graph import convert_in_background
from export.weights import UNKNOWN_ID, Float32, ModelWeights, expected_shapes, take_weights
from pipeline.run_folder import ModelConfig, import_tensorflow

WEIGHTS_FILE = "weights.npz"
MAX_TOKENS = 256
NO_TOKENIZER = b"This model was never trained. It takes ids and no text.\n"
LOOKUP_FOLDERS: dict[str, RecurrentDtype] = {
    bundle.LOOKUP_FOLDER: "float32",
    f"{bundle.LOOKUP_FOLDER}_int16": "int16",
    f"{bundle.LOOKUP_FOLDER}_int8": "int8",
}
LOOSE_TOLERANCE = 0.01
"""What the one probe of a compressed folder may differ by; the timing checks more, and closer."""
INITIALIZERS = {
    "embeddings": "uniform",
    "kernel": "glorot_uniform",
    "recurrent_kernel": "orthogonal",
    "bias": "zeros",
}
"""Keras's own defaults of Embedding, GRU and Dense by weight name."""


def draw_arrays(config: ModelConfig, seed: int) -> dict[str, Float32]:
    """Return fresh weights by Keras path, drawn as Keras would.

    Args:
        config: Shape of the model.
        seed: Same seed, same weights.
    """
    import keras

    arrays = {}
    for number, (path, shape) in enumerate(expected_shapes(config).items()):
        initializer: Any = keras.initializers.get(INITIALIZERS[path.rpartition("/")[2]])
        if hasattr(initializer, "seed"):
            initializer = type(initializer)(seed=seed * 1000 + number)
        arrays[path] = np.asarray(initializer(shape, "float32"), np.float32)
    return arrays


def write_untrained(folder: Path, config: ModelConfig, seed: int) -> None:
    """Write every form of an untrained classifier.

    Args:
        folder: Where to; must not exist.
        config: Shape of the model.
        seed: Same seed, same weights.

    Raises:
        FileExistsError: `folder` exists.
        OracleError: tf2onnx could not convert the SavedModel.
    """
    tf = import_tensorflow()
    from export.saved_model import IdsClassifier, write_saved_model

    (folder / bundle.ORACLE_FILE).parent.mkdir(parents=True)
    arrays = draw_arrays(config, seed)
    np.savez(folder / WEIGHTS_FILE, allow_pickle=False, **arrays)
    weights = take_weights(config, arrays)
    classifier = IdsClassifier(weights)
    write_saved_model(folder / bundle.SAVED_MODEL_FOLDER, classifier)
    with convert_in_background(folder, bundle.SAVED_MODEL_FOLDER, bundle.ORACLE_FILE) as wait:
        write_onnx(folder / bundle.ONNX_FILE, build_onnx(weights, {}))
        unknown = classifier.serve(tf.constant([[UNKNOWN_ID]]), tf.constant([1]))["probabilities"]
        probe = Probe("", (UNKNOWN_ID,), tuple(unknown.numpy()[0].tolist()))
        write_lookup_folders(folder, weights, probe)
        wait()


def write_lookup_folders(folder: Path, weights: ModelWeights, probe: Probe) -> None:
    """Write the lookup folder of every type that recurrent weights may have.

    Args:
        folder: Where to, see `LOOKUP_FOLDERS`.
        weights: The numbers.
        probe: The one golden probe.
    """
    model = weights.config
    arrays = fold_weights(weights)
    for name, dtype in LOOKUP_FOLDERS.items():
        config = LookupConfig(
            vocab_size=model.vocab_size,
            embed_dim=model.embed_dim,
            units=model.units,
            num_classes=model.num_classes,
            layers=model.layers,
            bidirectional=model.bidirectional,
            pooling=model.pooling,
            relu=model.relu,
            recurrent_dtype=dtype,
        )
        write_lookup(
            folder / name,
            config=config,
            arrays=compress_arrays(arrays, config),
            labels=[f"class {number}" for number in range(model.num_classes)],
            tokenizer=NO_TOKENIZER,
            golden=[probe],
            max_tokens=MAX_TOKENS,
            tolerance=TOLERANCE if config.is_exact else LOOSE_TOLERANCE,
        )


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--units", type=click.IntRange(1, 4096), default=128, show_default=True)
@click.option("--vocab-size", type=click.IntRange(3, 1_000_000), default=15000, show_default=True)
@click.option("--embed-dim", type=click.IntRange(1, 4096), default=128, show_default=True)
@click.option("--num-classes", type=click.IntRange(2, 100_000), default=45, show_default=True)
@click.option("--seed", type=click.IntRange(0, 2**20), default=1, show_default=True)
def main(
    folder: Path, units: int, vocab_size: int, embed_dim: int, num_classes: int, seed: int
) -> None:
    """Write every form of an untrained classifier into FOLDER, which must not exist.

    One layer that reads from left to right, last pooling, no ReLU: what `make bench` times.

    Example: python -m export.untrained build/untrained-256 --units 256
    """
    if folder.exists():
        raise click.UsageError(f"{folder}: expected a new folder, found an existing one.")
    config = ModelConfig(
        vocab_size=vocab_size,
        num_classes=num_classes,
        embed_dim=embed_dim,
        units=units,
        bidirectional=False,
        pooling="last",
        relu=False,
    )
    try:
        write_untrained(folder, config, seed)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


if __name__ == "__main__":
    main()
