"""Weights files of Keras 2, HDF5, read within bounds and without running anything in them.

Both kinds: `model.save_weights("x.h5")` and `model.save("x.h5")`, which has the same groups below
`model_weights` and a description of the model beside them. Only arrays and names are read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pipeline.legacy.cudnn_layout import Float32Array

MAX_FILE_BYTES = 4 * 2**30
MAX_CONFIG_BYTES = 2**24
MAX_LAYERS = 1000
MAX_RATIO = 100
"""An array may be this many times larger than what is stored of it; compression of weights is
never near it."""


class LegacyWeightsError(Exception):
    """A file that is no weights file of Keras 2, or holds more than weights."""


@dataclass(frozen=True, kw_only=True)
class LegacyLayer:
    """One layer with weights.

    Attributes:
        name: As the file has it.
        arrays: Name behind the layer's own, such as `forward_gru/kernel`, to a float32 array; in
            the order of the file.
    """

    name: str
    arrays: dict[str, Float32Array] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class LegacyWeights:
    """What a file holds.

    Attributes:
        layers: Layers that have weights, in the model's order.
        layer_names: Every layer's name, those without weights included.
        layer_configs: `{"class_name", "config"}` of each layer; None where the file describes no
            model.
        keras_version: That wrote it.
    """

    layers: list[LegacyLayer]
    layer_names: list[str]
    layer_configs: list[dict[str, Any]] | None
    keras_version: str


def read_legacy_weights(path: Path) -> LegacyWeights:
    """Read a weights file or a whole model of Keras 2.

    Raises:
        LegacyWeightsError: It is missing, no such file, too large, or has links, external or
            virtual data, or other types than floats.
    """
    try:
        size = path.stat().st_size
    except OSError as err:
        raise LegacyWeightsError(
            f"{path}: expected a weights file of Keras 2 (.h5), found {err.strerror}."
        ) from err
    if size > MAX_FILE_BYTES:
        raise LegacyWeightsError(f"{path}: expected at most {MAX_FILE_BYTES} bytes, found {size}.")
    try:
        with h5py.File(path, "r") as file:
            return _read_file(path, file)
    except (OSError, KeyError, RuntimeError, TypeError, ValueError) as err:
        raise LegacyWeightsError(
            f"{path}: expected a weights file of Keras 2 (HDF5 with `layer_names`), found: {err}. "
            "A .keras or .weights.h5 file of Keras 3 needs no import."
        ) from err


def _read_file(path: Path, file: h5py.File) -> LegacyWeights:
    root = _take(path, file, "model_weights") if "model_weights" in file else file
    names = _read_names(path, root, "layer_names")
    if len(names) > MAX_LAYERS:
        raise LegacyWeightsError(
            f"{path}: expected at most {MAX_LAYERS} layers, found {len(names)}."
        )
    layers = []
    for name in names:
        group = _take(path, root, name)
        arrays = {
            _shorten(weight): _read_array(path, group, weight)
            for weight in _read_names(path, group, "weight_names")
        }
        if arrays:
            layers.append(LegacyLayer(name=name, arrays=arrays))
    return LegacyWeights(
        layers=layers,
        layer_names=names,
        layer_configs=_read_layer_configs(path, file),
        keras_version=_as_text(root.attrs.get("keras_version", "unknown")),
    )


def _as_text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _read_names(path: Path, group: h5py.Group, key: str) -> list[str]:
    """A list of names; Keras cuts long ones into `key0`, `key1`, ..."""
    if key in group.attrs:
        return [_as_text(name) for name in group.attrs[key]]
    names: list[str] = []
    while f"{key}{len(names)}" in group.attrs and len(names) <= MAX_LAYERS:
        names.append(f"{key}{len(names)}")
    if not names:
        raise LegacyWeightsError(
            f"{path}: expected a weights file of Keras 2, found no `{key}` in {group.name}. A "
            ".keras or .weights.h5 file of Keras 3 needs no import."
        )
    return [_as_text(name) for part in names for name in group.attrs[part]]


def _shorten(weight: str) -> str:
    """`bidirectional/forward_gru/gru_cell/kernel:0` gives `forward_gru/kernel`."""
    parts = weight.removesuffix(":0").split("/")
    side = [part for part in parts[:-1] if part.startswith(("forward_", "backward_"))]
    return "/".join([*side[:1], parts[-1]])


def _take(path: Path, group: h5py.Group, name: str) -> Any:
    """A member reached by hard links only: others could lead out of the file."""
    for part in name.split("/"):
        if not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise LegacyWeightsError(
                f"{path}: expected {name!r} in {group.name}, found no such member, or a link."
            )
        group = group[part]
    return group


def _read_array(path: Path, group: h5py.Group, name: str) -> Float32Array:
    dataset = _take(path, group, name)
    where = f"{path}: {name}"
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind != "f":
        raise LegacyWeightsError(f"{where}: expected an array of floats, found {dataset!r}.")
    if dataset.external or dataset.is_virtual:
        raise LegacyWeightsError(f"{where}: expected its data in the file, found them elsewhere.")
    stored = dataset.id.get_storage_size()
    if dataset.nbytes > max(MAX_RATIO * stored, 2**16):
        raise LegacyWeightsError(
            f"{where}: expected at most {MAX_RATIO} times the {stored} bytes that are stored, "
            f"found an array of {dataset.nbytes}."
        )
    array = np.asarray(dataset[()], np.float32)
    if not np.isfinite(array).all():
        raise LegacyWeightsError(f"{where}: expected finite weights, found NaN or infinity.")
    return array


def _read_layer_configs(path: Path, file: h5py.File) -> list[dict[str, Any]] | None:
    text = file.attrs.get("model_config")
    if text is None:
        return None
    text = _as_text(text)
    if len(text) > MAX_CONFIG_BYTES:
        raise LegacyWeightsError(
            f"{path}: expected a model description of at most {MAX_CONFIG_BYTES} characters, found "
            f"{len(text)}."
        )
    try:
        layers = json.loads(text)["config"]["layers"]
        return [{"class_name": layer["class_name"], "config": layer["config"]} for layer in layers]
    except (ValueError, KeyError, TypeError, RecursionError) as err:
        raise LegacyWeightsError(
            f"{path}: expected a model of Keras 2 in `model_config`, found {err!r}."
        ) from err
