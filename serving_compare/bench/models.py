"""The untrained models that are timed, the rows they are asked, and the right answers to them.

The models are made by `python -m export.untrained`, a program of the export stage, in a process of
its own: this stage never imports TensorFlow, and reads what that program wrote.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from serving_compare.bench.programs import Program

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Weights = dict[str, NDArray[np.float32]]

WEIGHTS_FILE = "weights.npz"
FIRST_ID = 2
"""Ids from here on are ordinary tokens: 0 is padding, 1 is unknown."""
MEAN_LENGTH = 9.0
LENGTH_SIGMA = 0.5
"""Lengths of the bulk rows are lognormal, as those of titles and definitions roughly are."""
MAX_LENGTH = 64


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """Shape of an untrained model: one layer, left to right, last pooling, no ReLU.

    Attributes:
        units: H.
        vocab_size: V.
        embed_dim: E.
        num_classes: C.
    """

    units: int
    vocab_size: int = 15_000
    embed_dim: int = 128
    num_classes: int = 45

    def to_json(self) -> dict[str, Any]:
        """Return the shape with the names a report's `model` has."""
        return {
            **asdict(self),
            "layers": 1,
            "bidirectional": False,
            "pooling": "last",
            "relu": False,
        }


def export_program(folder: Path, shape: ModelShape, *, seed: int) -> Program:
    """Return the program that exports an untrained model in every form.

    Args:
        folder: Where to; must not exist.
        shape: Its shape.
        seed: Same seed, same weights.
    """
    arguments = [str(folder.resolve())]
    for name, value in {**asdict(shape), "seed": seed}.items():
        arguments += [f"--{name.replace('_', '-')}", str(value)]
    return Program(
        name=f"Export of the untrained model with {shape.units} units",
        module="export.untrained",
        arguments=tuple(arguments),
        log=folder.with_suffix(".log"),
    )


def litert_program(folder: Path, target: Path, lengths: Sequence[int]) -> Program:
    """Return the program that writes an exported model for LiteRT.

    Args:
        folder: What `export_program` wrote.
        target: Existing folder for one file a length.
        lengths: Numbers of tokens.
    """
    return Program(
        name=f"Conversion of {folder.name} for LiteRT",
        module="serving_compare.bench.litert",
        arguments=(str(folder / WEIGHTS_FILE), str(target), *map(str, lengths)),
        log=target.with_suffix(".log"),
    )


def read_weights(path: Path) -> Weights:
    """Return the model's arrays in Keras's layout, float32.

    Args:
        path: The `weights.npz` that the export wrote.

    Returns:
        `embedding` (V, E), `kernel` (E, 3H), `recurrent_kernel` (H, 3H), `bias` (2, 3H),
        `head_kernel` (H, C), `head_bias` (C,).
    """
    paths = {
        "embedding": "embedding/embeddings",
        "kernel": "gru_0/gru_cell/kernel",
        "recurrent_kernel": "gru_0/gru_cell/recurrent_kernel",
        "bias": "gru_0/gru_cell/bias",
        "head_kernel": "head/kernel",
        "head_bias": "head/bias",
    }
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[key] for name, key in paths.items()}


def draw_rows(
    vocab_size: int, lengths: Sequence[int], *, count: int, seed: int
) -> dict[int, NDArray[np.int32]]:
    """Return `count` rows of random ids for each length: length to (count, length) int32.

    Ids are uniform over the vocabulary, which spares no reader of tables: real texts ask for the
    same few rows again and again.
    """
    random = np.random.default_rng(seed)
    return {
        length: random.integers(FIRST_ID, vocab_size, (count, length), dtype=np.int32)
        for length in lengths
    }


def draw_batch(
    vocab_size: int, size: int, *, seed: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return a batch as it would come: ids (size, T) int32 padded with 0, lengths (size,) int32.

    Lengths are lognormal with mean 9, cut to 1 to 64; ids are uniform.
    """
    random = np.random.default_rng(seed)
    log_mean = np.log(MEAN_LENGTH) - LENGTH_SIGMA**2 / 2
    drawn = np.rint(random.lognormal(log_mean, LENGTH_SIGMA, size))
    lengths = np.clip(drawn, 1, MAX_LENGTH).astype(np.int32)
    ids = random.integers(FIRST_ID, vocab_size, (size, int(lengths.max())), dtype=np.int32)
    ids[np.arange(ids.shape[1]) >= lengths[:, None]] = 0
    return ids, lengths


def compute_reference(weights: Weights, ids: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return the log-probabilities (N, C) of full rows (N, T), in float64 from the equations.

    Source: `GRUCell.call` of Keras with `reset_after=True`.
    """
    exact = {name: array.astype(np.float64) for name, array in weights.items()}
    units = exact["recurrent_kernel"].shape[0]
    x = exact["embedding"][ids] @ exact["kernel"] + exact["bias"][0]  # (N, T, 3H)
    h = np.zeros((len(ids), units))
    for t in range(ids.shape[1]):
        inner = h @ exact["recurrent_kernel"] + exact["bias"][1]  # (N, 3H)
        z, r = (
            1 / (1 + np.exp(-(x[:, t, part] + inner[:, part])))
            for part in (slice(0, units), slice(units, 2 * units))
        )
        candidate = np.tanh(x[:, t, 2 * units :] + r * inner[:, 2 * units :])
        h = z * h + (1 - z) * candidate
    logits = h @ exact["head_kernel"] + exact["head_bias"]
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probabilities: NDArray[np.float64] = shifted - np.log(
        np.exp(shifted).sum(axis=1, keepdims=True)
    )
    return log_probabilities
