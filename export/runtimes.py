"""Each form of an artifact as one callable, so that the gate treats all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from export.bundle import (
    LOOKUP_FOLDER,
    ONNX_FILE,
    ORACLE_FILE,
    SAVED_MODEL_FOLDER,
    SAVED_MODEL_TEXT_FOLDER,
    TOKENIZER_FILE,
)
from export.difference import EXACT, Bounds
from export.lookup import LookupModel, read_lookup
from export.lookup.native import is_available as is_native_available
from export.weights import UNKNOWN_ID
from pipeline.run_folder import import_tensorflow

if TYPE_CHECKING:
    import keras

Float32 = NDArray[np.float32]
Int32 = NDArray[np.int32]
Predict = Callable[[Sequence[str], Int32, Int32], Float32]
"""(texts, (B, T) ids, (B,) lengths) -> (B, C) probabilities; a form uses texts or ids."""
Reference = Callable[[Int32], tuple[Float32, Float32]]
"""(B, T) ids, padded with 0 -> (B, C) logits and (B, C) probabilities of the Keras model."""


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """One form of the classifier, ready to run.

    Attributes:
        name: As in manifests, flags and tables.
        predict: See `Predict`.
        logits: (ids, lengths) -> (B, C) float32, where the form exposes them.
        encode: Texts -> ids, where the form has a tokenizer that can be asked.
        takes_text: Whether `predict` reads the texts and not the ids.
        takes_no_steps: Whether ids of shape (B, 0) are accepted.
        bounds: What it may differ by from the trained model.
    """

    name: str
    predict: Predict
    logits: Callable[[Int32, Int32], Float32] | None = None
    encode: Callable[[Sequence[str]], list[list[int]]] | None = None
    takes_text: bool = False
    takes_no_steps: bool = True
    bounds: Bounds = EXACT


def pad_ids(rows: Sequence[Sequence[int]], extra: int = 0) -> tuple[Int32, Int32]:
    """Return right-padded ids, (B, T) int32, and lengths, (B,) int32.

    Args:
        rows: Ids of each text.
        extra: Columns of padding beyond the longest row.
    """
    lengths = np.array([len(row) for row in rows], np.int32)
    ids = np.zeros((len(rows), int(lengths.max(initial=0)) + extra), np.int32)
    for row, values in zip(ids, rows, strict=True):
        row[: len(values)] = values
    return ids, lengths


def load_keras_reference(model: keras.Model) -> Reference:
    """Return the trained Keras model itself as a function of padded ids."""
    import keras
    import tensorflow as tf

    head = model.get_layer("head")
    both = keras.Model(model.inputs, [head.input, model.outputs[0]])

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)])
    def run(tokens: Any) -> Any:
        features, probabilities = both(tokens, training=False)
        return tf.matmul(features, head.kernel.value) + head.bias.value, probabilities

    def reference(ids: Int32) -> tuple[Float32, Float32]:
        logits, probabilities = run(tf.constant(ids))
        return logits.numpy(), probabilities.numpy()

    return reference


def load_saved_model(folder: Path) -> Runtime:
    """Load `saved_model/` from disk."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(folder))

    def predict(_: Sequence[str], ids: Int32, lengths: Int32) -> Float32:
        # Through `loaded` every time: it owns the variables and must stay alive.
        serve = loaded.signatures["serving_default"]
        return serve(tokens=tf.constant(ids), lengths=tf.constant(lengths))["probabilities"].numpy()

    return Runtime(name="saved_model", predict=predict)


def load_saved_model_text(folder: Path, tokenizer: bytes, max_tokens: int) -> Runtime:
    """Load `saved_model_text/` from disk, and tensorflow-text's own view of the tokenizer."""
    import tensorflow as tf
    import tensorflow_text as tf_text  # registers the op the graph holds

    loaded = tf.saved_model.load(str(folder))
    in_graph = tf_text.SentencepieceTokenizer(model=tokenizer, out_type=tf.int32)

    def predict(texts: Sequence[str], _: Int32, __: Int32) -> Float32:
        serve = loaded.signatures["serving_default"]
        return serve(text=tf.constant(list(texts)))["probabilities"].numpy()

    def encode(texts: Sequence[str]) -> list[list[int]]:
        rows = in_graph.tokenize(tf.constant(list(texts)))[:, :max_tokens].to_list()
        return [row or [UNKNOWN_ID] for row in rows]

    return Runtime(name="saved_model_text", predict=predict, encode=encode, takes_text=True)


def load_onnx(path: Path, name: str = "onnx") -> Runtime:
    """Load an ONNX file in onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # its warnings about unused constants are not ours to print
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def predict(_: Sequence[str], ids: Int32, lengths: Int32) -> Float32:
        return session.run(["probabilities"], {"tokens": ids, "lengths": lengths})[0]

    return Runtime(name=name, predict=predict, takes_no_steps=False)


def load_lookup_runtime(
    folder: Path, name: str, engine: str, logit_bound: float = EXACT.logit
) -> Runtime:
    """Load `lookup/`, checksums verified.

    Args:
        folder: The lookup folder.
        name: Of the runtime.
        engine: As `load_lookup` takes it.
        logit_bound: Of compressed arrays; the folder itself states how far probabilities may be.
    """
    files = read_lookup(folder)
    # The gate replays the probes itself, to report a difference instead of failing to load.
    model = LookupModel(files, engine=engine, check_tokenizer=False)
    bounds = Bounds(probability=files.tolerance, logit=logit_bound, same_ranks=False)

    def encode(texts: Sequence[str]) -> list[list[int]]:
        ids, lengths = model.encode(texts)
        return [row[:length].tolist() for row, length in zip(ids, lengths, strict=True)]

    return Runtime(
        name=name,
        predict=lambda _, ids, lengths: model.probabilities(ids, lengths),
        logits=model.logits,
        encode=encode,
        bounds=EXACT if files.config.is_exact else bounds,
    )


def load_runtimes(
    folder: Path, max_tokens: int, lookup_logit_bound: float = EXACT.logit
) -> list[Runtime]:
    """Load every form of an artifact folder from disk.

    Args:
        folder: An artifact, published or about to be.
        max_tokens: Texts are cut to so many ids.
        lookup_logit_bound: See `load_lookup_runtime`.

    Returns:
        `saved_model`, `saved_model_text`, `onnx`, `tf2onnx`, `lookup` and `lookup_numpy`, in this
        order; `tf2onnx` only where the artifact still holds it, `lookup_numpy` only where `lookup`
        is the native engine.
    """
    import_tensorflow()
    tokenizer = (folder / TOKENIZER_FILE).read_bytes()
    runtimes = [
        load_saved_model(folder / SAVED_MODEL_FOLDER),
        load_saved_model_text(folder / SAVED_MODEL_TEXT_FOLDER, tokenizer, max_tokens),
        load_onnx(folder / ONNX_FILE),
    ]
    if (folder / ORACLE_FILE).is_file():
        runtimes.append(load_onnx(folder / ORACLE_FILE, "tf2onnx"))
    engines = {"lookup": "native", "lookup_numpy": "numpy"}
    if not is_native_available():
        engines = {"lookup": "numpy"}
    for name, engine in engines.items():
        runtimes.append(
            load_lookup_runtime(folder / LOOKUP_FOLDER, name, engine, lookup_logit_bound)
        )
    return runtimes
