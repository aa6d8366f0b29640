from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import export
import pipeline
from export.bundle import LOOKUP_FOLDER, MANIFEST_FILE, REQUIRED_FILES, format_manifest
from pipeline.run_folder import Run

SCHEMAS = Path(export.__file__).parent / "schema"
GOLDEN = Path(__file__).parents[1] / "golden"
ARTIFACT, LOOKUP = (
    jsonschema.Draft202012Validator(json.loads((SCHEMAS / f"{name}.schema.json").read_text()))
    for name in ("artifact_manifest", "lookup_manifest")
)


def read(version: str, folder: str = "") -> Any:
    return json.loads((GOLDEN / version / folder / MANIFEST_FILE).read_text())


@pytest.mark.parametrize("path", sorted(SCHEMAS.iterdir()), ids=lambda path: path.name)
def test_a_schema_is_one(path: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(path.read_text()))


@pytest.mark.parametrize("version", ["v1", "v2", "v3"])
def test_frozen_manifests_are_valid(version: str) -> None:
    ARTIFACT.validate(read(version))
    LOOKUP.validate(read(version, LOOKUP_FOLDER))


@pytest.mark.parametrize(("format_version", "is_valid"), [(1, False), (2, True), (3, True)])
def test_schema_version_3_goes_with_formats_2_and_3(format_version: int, is_valid: bool) -> None:
    manifest = {**read("v3"), "format_version": format_version}
    assert ARTIFACT.is_valid(manifest) == is_valid


def test_a_manifest_of_schema_version_3_is_valid_with_its_checksum_only() -> None:
    manifest = {**read("v2"), "schema_version": 3}
    assert not ARTIFACT.is_valid(manifest)
    ARTIFACT.validate(json.loads(format_manifest(manifest)))


@pytest.mark.slow
def test_what_the_exporter_writes_today_is_valid(published: Path) -> None:
    ARTIFACT.validate(json.loads((published / MANIFEST_FILE).read_text()))
    LOOKUP.validate(json.loads((published / LOOKUP_FOLDER / MANIFEST_FILE).read_text()))


def test_what_the_lookup_writer_writes_today_is_valid(tiny_lookup: Path) -> None:
    LOOKUP.validate(json.loads((tiny_lookup / MANIFEST_FILE).read_text()))


@pytest.mark.parametrize("version", ["v1", "v2", "v3"])
@pytest.mark.parametrize(
    ("schema", "folder"), [(ARTIFACT, ""), (LOOKUP, LOOKUP_FOLDER)], ids=["artifact", "lookup"]
)
def test_every_key_is_required_and_no_other_is_known(
    schema: jsonschema.Draft202012Validator, folder: str, version: str
) -> None:
    manifest = read(version, folder)
    for key in manifest:
        assert not schema.is_valid({k: v for k, v in manifest.items() if k != key}), key
        assert not schema.is_valid({**manifest, key: None if key != "word_table" else 1}), key
    assert not schema.is_valid({**manifest, "extra": 1})


def change(*path: str, to: Any) -> Callable[[dict[str, Any]], None]:
    def apply(manifest: dict[str, Any]) -> None:
        *parents, last = path
        for key in parents:
            manifest = manifest[key]
        manifest[last] = to

    return apply


WRONG = [
    change("schema_version", to=True),
    change("schema_version", to=4),
    change("format_version", to=1),
    change("name", to="../outside"),
    change("version", to=0),
    change("version", to="1"),
    change("axes", "H", to=4097),
    change("model", "units", to=0),
    change("model", "unknown", to=1),
    change("pooling", to="sum"),
    change("max_tokens", to=65_537),
    change("labels_sha256", to="A" * 64),
    change("files", "model.onnx", "bytes", to=-1),
    change("files", "model.onnx", "sha256", to="0" * 63),
    change("files", "../outside", to={"bytes": 1, "sha256": "0" * 64}),
    change("files", "/etc/passwd", to={"bytes": 1, "sha256": "0" * 64}),
    change("files", "a\\b", to={"bytes": 1, "sha256": "0" * 64}),
    change("metrics", "replayed", "lookup", "top_1", to=1.01),
    change("metrics", "replayed", "other", to={"top_1": 1, "top_k": 1}),
    change("metrics", "test", to={}),
    change("parity", "tokenizer_differences", to=1),
    change("parity", "backends", "lookup", "tolerance", to=None),
    change("compression", "options", to=[]),
    change("compression", "table_dtype", to="float64"),
    change("word_table", "words", to=1.5),
    change("provenance", "run_sha256", to=""),
    change("manifest_sha256", to="0" * 63),
]


@pytest.mark.parametrize("spoil", WRONG)
def test_a_wrong_artifact_manifest_is_invalid(spoil: Callable[[dict[str, Any]], None]) -> None:
    manifest = read("v3")
    spoil(manifest)
    assert not ARTIFACT.is_valid(manifest)


@pytest.mark.parametrize("name", REQUIRED_FILES)
def test_every_required_file_must_be_listed(name: str) -> None:
    manifest = read("v2")
    del manifest["files"][name]
    assert not ARTIFACT.is_valid(manifest)


@pytest.mark.parametrize(
    "spoil",
    [
        change("format", to="other"),
        change("format_version", to=4),
        change("layers", to=9),
        change("manifest_sha256", to="A" * 64),
        change("bidirectional", to=1),
        change("tolerance", to=1e-6),
        change("table_dtype", to="int4"),
        change("recurrent_dtype", to="float16"),
        change("word_table", to={"words": 1}),
        change("files", "gate_table.npy", "dtype", to="<f8"),
        change("files", "gate_table.npy", "shape", to=[]),
        change("files", "labels.json", "shape", to=[1]),
        change("files", "evil.npy", to={"bytes": 1, "sha256": "0" * 64}),
    ],
)
def test_a_wrong_lookup_manifest_is_invalid(spoil: Callable[[dict[str, Any]], None]) -> None:
    manifest = read("v3", LOOKUP_FOLDER)
    spoil(manifest)
    assert not LOOKUP.is_valid(manifest)


def test_errors_name_the_key_at_fault() -> None:
    manifest = read("v2")
    manifest["axes"]["H"] = "wide"
    (error,) = ARTIFACT.iter_errors(manifest)
    assert (list(error.absolute_path), error.message) == (
        ["axes", "H"],
        "'wide' is not of type 'integer'",
    )


def test_the_run_that_is_exported_is_valid(hollow_run: Run) -> None:
    path = Path(pipeline.__file__).parent / "schema" / "run.schema.json"
    jsonschema.validate(
        json.loads((hollow_run.folder / "run.json").read_text()), json.loads(path.read_text())
    )
