from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow


def run_fresh(code: str, folder: Path) -> str:
    """Run code in a process that knows nothing of ours; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_saved_model_loads_in_a_bare_tensorflow(published: Path) -> None:
    answer = run_fresh(
        """if True:
        import json, sys
        import tensorflow as tf
        serve = tf.saved_model.load("saved_model").signatures["serving_default"]
        ids = tf.constant([[5, 6, 7], [8, 0, 0], [0, 0, 0]])
        out = serve(tokens=ids, lengths=tf.constant([3, 1, 0]))
        none = serve(tokens=tf.zeros([1, 0], tf.int32), lengths=tf.constant([0]))
        unknown = serve(tokens=tf.constant([[1]]), lengths=tf.constant([1]))
        loaded = [name for name in ("tensorflow_text", "export") if name in sys.modules]
        kinds = [str(serve.structured_input_signature[1][k].dtype) for k in ("lengths", "tokens")]
        print(json.dumps([loaded, list(out), kinds, *(o["probabilities"].numpy().tolist()
            for o in (out, none, unknown))]))
        """,
        published,
    )
    loaded, names, kinds, out, none, unknown = json.loads(answer.splitlines()[-1])
    assert (loaded, names) == ([], ["probabilities"])
    assert kinds == ["<dtype: 'int32'>"] * 2
    assert np.shape(out) == (3, 5)
    np.testing.assert_allclose(out[2], unknown[0], atol=1e-6)
    np.testing.assert_allclose(none, unknown, atol=1e-6)


def test_saved_model_holds_standard_operators_only(published: Path) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel()
    model.ParseFromString((published / "saved_model" / "saved_model.pb").read_bytes())
    operators = {
        node.op
        for graph in model.meta_graphs
        for function in graph.graph_def.library.function
        for node in function.node_def
    }
    assert not [name for name in operators if "Sentencepiece" in name or "Cudnn" in name]
    assert {"While", "StatelessWhile"} & operators


def test_saved_model_text_reads_raw_strings(published: Path) -> None:
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  (registers the tokenizer's operator)

    loaded = tf.saved_model.load(str(published / "saved_model_text"))
    ids = tf.saved_model.load(str(published / "saved_model"))
    serve = loaded.signatures["serving_default"]
    found = serve(text=tf.constant(["", "cat dog"]))["probabilities"].numpy()
    empty = ids.signatures["serving_default"](tokens=tf.constant([[1]]), lengths=tf.constant([1]))[
        "probabilities"
    ].numpy()
    np.testing.assert_allclose(found[:1], empty, atol=1e-6)
    assert found.shape == (2, 5)


def test_saved_model_text_runs_alone_after_a_move(published: Path, tmp_path: Path) -> None:
    shutil.copytree(published / "saved_model_text", tmp_path / "moved")
    answer = run_fresh(
        """if True:
        import tensorflow as tf
        import tensorflow_text
        model = tf.saved_model.load("moved")
        out = model.signatures["serving_default"](text=tf.constant(["cat"]))
        print(out["probabilities"].shape)
        """,
        tmp_path,
    )
    assert answer.strip() == "(1, 5)"


def test_the_fingerprint_follows_from_the_content(published: Path) -> None:
    from tensorflow.core.protobuf import fingerprint_pb2

    fingerprint = fingerprint_pb2.FingerprintDef.FromString(
        (published / "saved_model" / "fingerprint.pb").read_bytes()
    )
    assert fingerprint.uuid == str(fingerprint.saved_model_checksum)
