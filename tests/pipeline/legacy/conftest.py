"""Legacy files, written by Keras 2 itself in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

WRITER = """
import sys
from pathlib import Path
import numpy as np
import tf_keras as keras
from tf_keras.src.layers import CuDNNGRU

V, E, H, C = 20, 5, 4, 3
folder = Path(sys.argv[1])
layers = keras.layers
random = np.random.default_rng(0)

def build(cell, *, directions=1, depth=1, pooling="max", relu=False, head="softmax", **settings):
    ids = keras.Input((None,), dtype="int32")
    x = layers.Dropout(0.1)(layers.Embedding(V, E, mask_zero=cell is layers.GRU)(ids))
    for number in range(depth):
        gru = cell(H, return_sequences=pooling != "last" or number < depth - 1, **settings)
        x = layers.Bidirectional(gru)(x) if directions == 2 else gru(x)
    if pooling != "last":
        x = {"max": layers.GlobalMaxPooling1D, "mean": layers.GlobalAveragePooling1D}[pooling]()(x)
    if relu:
        x = layers.ReLU()(x)
    model = keras.Model(ids, layers.Dense(C, activation=head)(x))
    model.set_weights([random.normal(0, 0.5, w.shape) for w in model.get_weights()])
    return model

models = {
    "cudnn": build(CuDNNGRU),
    "cudnn_bi": build(CuDNNGRU, directions=2, pooling="last", relu=True),
    "cudnn_bi_deep": build(CuDNNGRU, directions=2, depth=2, pooling="mean"),
    "gru": build(layers.GRU),
    "gru_bi": build(layers.GRU, directions=2),
    "reset_before": build(layers.GRU, reset_after=False),
    "hard_sigmoid": build(layers.GRU, recurrent_activation="hard_sigmoid"),
    "lstm": build(layers.LSTM),
    "sigmoid_head": build(layers.GRU, head="sigmoid"),
}
for name, model in models.items():
    model.save_weights(folder / f"{name}.h5")
    model.save(folder / f"{name}_model.h5")
    np.savez(folder / f"{name}.npz", *model.get_weights())
# What Keras 2 answers where it can run here: texts without padding, one at a time.
rows = [random.integers(2, V, n) for n in (1, 2, 7, 12)]
for name in ("gru", "gru_bi"):
    answers = [models[name](row[None]).numpy()[0] for row in rows]
    np.savez(folder / f"{name}_answers.npz", *rows, answers=np.stack(answers))
"""


@pytest.fixture(scope="session")
def legacy_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of `<name>.h5` (weights), `<name>_model.h5` (whole models) and `<name>.npz`."""
    folder = tmp_path_factory.mktemp("legacy")
    done = subprocess.run(
        [sys.executable, "-c", WRITER, str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return folder
