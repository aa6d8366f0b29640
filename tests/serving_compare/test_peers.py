"""Peers on real graphs: OpenVINO always, torch and LiteRT where they are installed."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from serving_compare.backends import BACKENDS, ArtifactFiles, Backend, StageClock
from serving_compare.peers import PEER_LIBRARIES, OpenvinoBackend, list_missing

SHAPES = [(1, 1), (1, 7), (1, OpenvinoBackend.MAX_COMPILED_TOKENS + 1), (3, 5)]


@pytest.fixture(scope="module", params=["max", "last", "mean"])
def files(
    tmp_path_factory: pytest.TempPathFactory, tokenizer_model: Path, request: pytest.FixtureRequest
) -> ArtifactFiles:
    """A graph as export writes it, of two layers that read both ways, with random weights."""
    from export.onnx_graph import build_onnx, write_onnx
    from export.untrained import draw_arrays
    from export.weights import take_weights
    from pipeline.config import ModelConfig

    config = ModelConfig(
        vocab_size=64, num_classes=3, embed_dim=5, units=4, layers=2, pooling=request.param
    )
    path = tmp_path_factory.mktemp("peers") / "model.onnx"
    write_onnx(path, build_onnx(take_weights(config, draw_arrays(config, seed=1)), {}))
    return ArtifactFiles(
        saved_model="",
        saved_model_text="",
        onnx=str(path),
        lookup="",
        tokenizer=str(tokenizer_model),
        tf2onnx="",
        max_tokens=16,
        num_classes=3,
    )


def load(name: str, files: ArtifactFiles) -> Backend:
    backend = BACKENDS[name]()
    clock = StageClock(time.perf_counter_ns())
    for interface in ("text", "ids"):
        backend.load(files, interface, clock)
    assert set(clock.stages_ns) == {"import", "load"}
    return backend


@pytest.mark.slow
@pytest.mark.parametrize("peer", list(PEER_LIBRARIES))
def test_a_peer_answers_as_onnxruntime_does(peer: str, files: ArtifactFiles):
    if list_missing(peer):
        pytest.skip(f"{' and '.join(list_missing(peer))} not installed")
    ours, theirs = load(peer, files), load("onnx", files)
    random = np.random.default_rng(0)
    for rows, tokens in SHAPES:
        ids = random.integers(1, 64, (rows, tokens), dtype=np.int32)
        lengths = random.integers(1, tokens + 1, rows, dtype=np.int32)
        lengths[0] = tokens
        found = ours.run_ids(ids, lengths)
        np.testing.assert_allclose(found, theirs.run_ids(ids, lengths), atol=1e-5)
    texts = ["", "red cat", "small green house by the river"]
    np.testing.assert_allclose(ours.run_texts(texts), theirs.run_texts(texts), atol=1e-5)
    np.testing.assert_allclose(ours.run_texts(texts[1:2]), theirs.run_texts(texts[1:2]), atol=1e-5)


def test_what_a_peer_needs_is_looked_for_without_importing_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(PEER_LIBRARIES, "torch", ("no_such_module", "json"))
    assert list_missing("torch") == ["no_such_module"]
