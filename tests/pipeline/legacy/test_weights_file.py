"""Legacy weights files: what Keras 2 wrote is read, anything else is refused before it is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from pipeline.legacy.weights_file import LegacyWeightsError, read_legacy_weights

Write = Callable[[h5py.File], None]


def write_layers(root: h5py.Group, **layers: dict[str, np.ndarray]) -> None:
    root.attrs["layer_names"] = [name.encode() for name in layers]
    for name, arrays in layers.items():
        group = root.create_group(name)
        group.attrs["weight_names"] = [f"{name}/{key}:0".encode() for key in arrays]
        for key, array in arrays.items():
            group[f"{name}/{key}:0"] = array


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "old.h5"


def test_layers_come_in_order_with_short_names_and_float32(path: Path) -> None:
    arrays = {"forward_gru/gru_cell/kernel": np.ones((2, 3)), "backward_gru/bias": np.zeros(3)}
    with h5py.File(path, "w") as file:
        write_layers(file, dropout={}, bidirectional=arrays, dense={"kernel": np.eye(2)})
    weights = read_legacy_weights(path)
    assert weights.layer_names == ["dropout", "bidirectional", "dense"]
    assert [layer.name for layer in weights.layers] == ["bidirectional", "dense"]
    assert list(weights.layers[0].arrays) == ["forward_gru/kernel", "backward_gru/bias"]
    assert weights.layers[1].arrays["kernel"].dtype == np.float32
    assert weights.layer_configs is None


def test_names_that_keras_cut_into_pieces_are_put_together(path: Path) -> None:
    with h5py.File(path, "w") as file:
        write_layers(file, a={}, b={})
        del file.attrs["layer_names"]
        file.attrs["layer_names0"], file.attrs["layer_names1"] = [b"a"], [b"b"]
    assert read_legacy_weights(path).layer_names == ["a", "b"]


def test_a_whole_model_has_its_description(path: Path) -> None:
    layers = [{"class_name": "GRU", "config": {"units": 3}, "inbound_nodes": []}]
    with h5py.File(path, "w") as file:
        write_layers(file.create_group("model_weights"), gru={})
        file.attrs["model_config"] = json.dumps({"config": {"layers": layers}})
    assert read_legacy_weights(path).layer_configs == [
        {"class_name": "GRU", "config": {"units": 3}}
    ]


def _with_link(file: h5py.File) -> None:
    write_layers(file, dense={})
    del file["dense"]
    file["dense"] = h5py.ExternalLink("/etc/hostname", "/")


def _with_soft_link(file: h5py.File) -> None:
    write_layers(file, dense={"kernel": np.eye(2)})
    del file["dense/dense/kernel:0"]
    file["dense/dense/kernel:0"] = h5py.SoftLink("/dense")


def _with_external_data(file: h5py.File) -> None:
    write_layers(file, dense={"kernel": np.eye(2)})
    del file["dense/dense/kernel:0"]
    file["dense/dense"].create_dataset(
        "kernel:0", (2, 2), "f4", external=[("/etc/hostname", 0, 16)]
    )


def _with_bomb(file: h5py.File) -> None:
    write_layers(file, dense={})
    file["dense"].attrs["weight_names"] = [b"dense/kernel:0"]
    zeros = np.zeros((4096, 4096), np.float32)
    file["dense"].create_dataset("dense/kernel:0", data=zeros, compression="gzip")


def _with_hole(file: h5py.File) -> None:
    write_layers(file, dense={})
    file["dense"].attrs["weight_names"] = [b"dense/kernel:0"]
    file["dense"].create_dataset("dense/kernel:0", (2**20, 2**20), "f4")  # 4 TB, nothing stored


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda file: None, "found no `layer_names` in /"),
        (_with_link, "expected 'dense' in /, found no such member, or a link"),
        (_with_soft_link, "found no such member, or a link"),
        (_with_external_data, "expected its data in the file, found them elsewhere"),
        (_with_bomb, "expected at most 100 times the .* bytes that are stored, found an array of"),
        (_with_hole, "expected at most 100 times the 0 bytes that are stored"),
        (
            lambda file: write_layers(file, d={"kernel": np.array([1, 2])}),
            "expected an array of floats",
        ),
        (
            lambda file: write_layers(file, d={"kernel": np.array([np.nan])}),
            "expected finite weights, found NaN or infinity",
        ),
        (
            lambda file: (
                write_layers(file.create_group("model_weights"), d={}),
                file.attrs.__setitem__("model_config", "[" * 9000),
            ),
            "expected a model of Keras 2 in `model_config`",
        ),
    ],
)
def test_what_is_no_plain_weights_file_is_refused(path: Path, write: Write, message: str) -> None:
    with h5py.File(path, "w") as file:
        write(file)
    with pytest.raises(LegacyWeightsError, match=message):
        read_legacy_weights(path)


def test_a_missing_file_and_one_of_another_kind_are_refused(path: Path) -> None:
    with pytest.raises(LegacyWeightsError, match=r"expected a weights file of Keras 2 \(\.h5\)"):
        read_legacy_weights(path)
    path.write_bytes(b"PK\x03\x04 a Keras 3 file is a ZIP")
    with pytest.raises(LegacyWeightsError, match=r"A \.keras or \.weights\.h5 file of Keras 3"):
        read_legacy_weights(path)


def test_no_truncation_or_flipped_byte_ends_in_anything_but_an_answer_or_a_refusal(
    path: Path,
) -> None:
    with h5py.File(path, "w") as file:
        write_layers(file, dense={"kernel": np.eye(8), "bias": np.ones(8)})
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    refused = 0
    for number in range(200):
        damaged = bytearray(whole)
        if number % 2:
            del damaged[int(random.integers(len(whole))) :]
        else:
            damaged[int(random.integers(len(whole)))] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged)
        try:
            read_legacy_weights(path)
        except LegacyWeightsError:
            refused += 1
    assert refused > 100  # every truncation that cuts something, and many a flip
