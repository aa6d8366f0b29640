from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

import export.layout
from export.bundle import list_files, read_artifact
from export.layout import LayoutError, format_onnx_config, format_text_config, write_layout

GOLDEN = Path(__file__).parents[1] / "golden" / "v2"
"""A whole artifact of a few kilobytes: name tiny, version 1, two labels."""


def make_config_class() -> Any:
    """The messages of Triton's model_config.proto that we use, under its names and numbers."""
    field = descriptor_pb2.FieldDescriptorProto
    types = {
        "string": field.TYPE_STRING,
        "int32": field.TYPE_INT32,
        "int64": field.TYPE_INT64,
    }
    messages: dict[str, dict[str, tuple[int, str, bool]]] = {
        "ModelInput": {
            "name": (1, "string", False),
            "data_type": (2, "DataType", False),
            "dims": (4, "int64", True),
        },
        "ModelOutput": {
            "name": (1, "string", False),
            "data_type": (2, "DataType", False),
            "dims": (3, "int64", True),
            "label_filename": (4, "string", False),
        },
        "ModelInstanceGroup": {"kind": (4, "Kind", False), "count": (2, "int32", False)},
        "ModelDynamicBatching": {},
        "ModelParameter": {"string_value": (1, "string", False)},
        "ParametersEntry": {"key": (1, "string", False), "value": (2, "ModelParameter", False)},
        "ModelConfig": {
            "name": (1, "string", False),
            "backend": (17, "string", False),
            "max_batch_size": (4, "int32", False),
            "input": (5, "ModelInput", True),
            "output": (6, "ModelOutput", True),
            "instance_group": (7, "ModelInstanceGroup", True),
            "dynamic_batching": (11, "ModelDynamicBatching", False),
            "parameters": (14, "ParametersEntry", True),
        },
    }
    enums = {
        "DataType": {"TYPE_INVALID": 0, "TYPE_INT32": 8, "TYPE_FP32": 11, "TYPE_STRING": 13},
        "Kind": {"KIND_AUTO": 0, "KIND_GPU": 1, "KIND_CPU": 2},
    }
    file = descriptor_pb2.FileDescriptorProto(name="config.proto", package="t", syntax="proto3")
    for name, values in enums.items():
        enum = file.enum_type.add(name=name)
        for value, number in values.items():
            enum.value.add(name=value, number=number)
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        for field_name, (number, kind, repeated) in fields.items():
            added = message.field.add(name=field_name, number=number)
            added.label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
            if kind in types:
                added.type = types[kind]
            else:
                added.type = field.TYPE_ENUM if kind in enums else field.TYPE_MESSAGE
                added.type_name = f".t.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.ModelConfig"))


@pytest.fixture(scope="module")
def parse() -> Any:
    config_class = make_config_class()
    return lambda text: text_format.Parse(text, config_class())


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = tmp_path_factory.mktemp("triton")
    write_layout(GOLDEN, "triton", models)
    return models


def list_tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_triton_gets_two_models_of_one_version(triton: Path) -> None:
    names = list_tree(triton)
    lookup = [f"tiny_text/1/lookup/{name}" for name in list_files(GOLDEN / "lookup")]
    assert names == sorted(
        [
            *("tiny/1/model.onnx", "tiny/config.pbtxt", "tiny/labels.txt"),
            *("tiny_text/1/model.py", "tiny_text/config.pbtxt", "tiny_text/labels.txt", *lookup),
        ]
    )
    assert not any(path.is_symlink() for path in triton.rglob("*"))
    assert (triton / "tiny/1/model.onnx").read_bytes() == (GOLDEN / "model.onnx").read_bytes()
    labels = json.loads((GOLDEN / "labels.json").read_text())
    assert (triton / "tiny/labels.txt").read_text().split("\n") == [*labels, ""]


def test_the_onnx_configuration_describes_the_graph(triton: Path, parse: Any) -> None:
    config = parse((triton / "tiny/config.pbtxt").read_text())
    assert (config.name, config.backend, config.max_batch_size) == ("tiny", "onnxruntime", 0)
    assert not config.HasField("dynamic_batching")
    session = onnxruntime.InferenceSession(triton / "tiny/1/model.onnx")
    kinds = {8: "tensor(int32)", 11: "tensor(float)"}
    for described, given in (
        (config.input, session.get_inputs()),
        (config.output, session.get_outputs()),
    ):
        assert [
            (tensor.name, kinds[tensor.data_type], list(tensor.dims)) for tensor in described
        ] == [
            (tensor.name, tensor.type, [n if isinstance(n, int) else -1 for n in tensor.shape])
            for tensor in given
        ]
    assert config.output[0].label_filename == "labels.txt"


def test_the_text_configuration_lets_the_server_join_requests(triton: Path, parse: Any) -> None:
    config = parse((triton / "tiny_text/config.pbtxt").read_text())
    assert (config.name, config.backend, config.max_batch_size) == ("tiny_text", "python", 256)
    assert config.HasField("dynamic_batching")
    assert [(tensor.name, list(tensor.dims)) for tensor in config.input] == [("text", [1])]
    outputs = [(tensor.name, list(tensor.dims)) for tensor in config.output]
    assert outputs == [("probabilities", [2]), ("labels", [2])]


def test_names_are_quoted(parse: Any) -> None:
    name = 'a"b\\c 한국'
    assert parse(format_onnx_config(name, 45)).name == name
    assert list(parse(format_text_config(name, 45)).output[1].dims) == [3]


BACKEND = """
class Tensor:
    def __init__(self, name, values):
        self.name, self.values = name, values
    def as_numpy(self):
        return self.values
class TritonError:
    def __init__(self, message):
        self.message = message
class InferenceResponse:
    def __init__(self, output_tensors=(), error=None):
        self.output_tensors, self.error = output_tensors, error
def get_input_tensor_by_name(request, name):
    (tensor,) = [tensor for tensor in request if tensor.name == name]
    return tensor
"""
"""Triton's module for Python models, as its documentation describes it; it is in no package."""

DRIVE = """
import importlib.util, json, sys
import numpy as np
sys.path.insert(0, sys.argv[1])
import triton_python_backend_utils as pb_utils
spec = importlib.util.spec_from_file_location("model", sys.argv[2])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
model = module.TritonPythonModel()
model.initialize({})
def request(*texts):
    return [pb_utils.Tensor("text", np.array([[text] for text in texts], dtype=object))]
texts = [text.encode() for text in json.load(sys.stdin)]
answers = model.execute([request(*texts[:3]), request(b"\\xff"), request(*texts[3:])])
assert model.execute([]) == []
print(json.dumps([
    answer.error.message if answer.error else
    {tensor.name: tensor.values.tolist() for tensor in answer.output_tensors}
    for answer in answers
]))
"""


def test_the_python_model_answers_joined_requests(triton: Path, tmp_path: Path) -> None:
    (tmp_path / "triton_python_backend_utils.py").write_text(BACKEND)
    rows = [json.loads(line) for line in (GOLDEN / "golden.jsonl").read_text().split("\n") if line]
    rows = rows[:20]
    done = subprocess.run(
        [sys.executable, "-I", "-c", DRIVE, tmp_path, triton / "tiny_text/1/model.py"],
        input=json.dumps([row["text"] for row in rows]),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    first, refused, last = json.loads(done.stdout)
    assert refused.startswith("text: expected UTF-8, found ")
    assert len(first["labels"]) == 3
    probabilities = np.array(first["probabilities"] + last["probabilities"])
    expected = np.array([row["probabilities"] for row in rows])
    np.testing.assert_allclose(probabilities, expected, atol=0.02)  # its tables are compressed
    labels = json.loads((GOLDEN / "labels.json").read_text())
    best = [[labels[label] for label in np.argsort(-row)] for row in probabilities]
    assert first["labels"] + last["labels"] == best


def test_tensorflow_serving_gets_a_copy_of_both_saved_models(tmp_path: Path) -> None:
    written = write_layout(GOLDEN, "tfserving", tmp_path)
    assert written == [tmp_path / "tiny" / "1", tmp_path / "tiny_text" / "1"]
    for folder, source in zip(written, ("saved_model", "saved_model_text"), strict=True):
        assert (folder / "saved_model.pb").is_file()
        assert list_tree(folder) == list_tree(GOLDEN / source)
        assert not any(path.is_symlink() for path in folder.rglob("*"))


def test_a_second_call_changes_nothing_and_other_files_are_refused(tmp_path: Path) -> None:
    write_layout(GOLDEN, "triton", tmp_path)
    before = list_tree(tmp_path)
    shutil.rmtree(tmp_path / "tiny_text")  # as a kill between the two models leaves it
    write_layout(GOLDEN, "triton", tmp_path)
    assert list_tree(tmp_path) == before
    (tmp_path / "tiny" / "1" / "model.onnx").write_bytes(b"other")
    with pytest.raises(LayoutError) as caught:
        write_layout(GOLDEN, "triton", tmp_path)
    assert str(caught.value) == (
        f"{tmp_path / 'tiny' / '1'}: expected no such version, or the same files, found others. "
        "Remove it, or lay out a newer version."
    )
    assert (tmp_path / "tiny" / "1" / "model.onnx").read_bytes() == b"other"
    assert list_tree(tmp_path) == before


def test_a_models_folder_with_other_labels_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "labels.txt").write_text("one\ntwo\n")
    with pytest.raises(LayoutError, match="expected the labels of .*v2, found others. Triton has"):
        write_layout(GOLDEN, "triton", tmp_path)
    assert list_tree(tmp_path) == ["tiny/labels.txt"]


def test_a_failed_copy_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(export.layout, "_fsync_tree", fail)
    with pytest.raises(OSError, match="disk full"):
        write_layout(GOLDEN, "triton", tmp_path)
    assert list_tree(tmp_path) == []
    assert [path.name for path in (tmp_path / "tiny").iterdir()] == []


def test_the_golden_artifact_is_what_these_tests_take_it_for() -> None:
    artifact = read_artifact(GOLDEN)
    assert (artifact.name, artifact.version, len(artifact.labels)) == ("tiny", 1, 2)
