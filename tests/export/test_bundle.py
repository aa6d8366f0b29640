from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from export.bundle import (
    MAX_MANIFEST_BYTES,
    ORACLE_FILE,
    REQUIRED_FILES,
    Artifact,
    BundleError,
    find_artifact,
    format_manifest,
    iterate_versions,
    list_files,
    publish_artifact,
    read_artifact,
    remove_partials,
    write_latest,
)
from tests.export.tiny import LABELS, make_config

FIELDS: dict[str, Any] = {
    "name": "tiny",
    "model": make_config().to_json(),
    "axes": {"V": 96, "E": 7, "H": 6, "C": 5},
    "pooling": "max",
    "max_tokens": 16,
    "labels_sha256": "0" * 64,
    "tokenizer_sha256": "0" * 64,
    "metrics": {},
    "parity": {},
    "compression": {},
    "word_table": {},
    "provenance": {"run": "one"},
}


def make_partial(folder: Path, name: str = ".partial-1") -> Path:
    partial = folder / name
    for file in (*REQUIRED_FILES, ORACLE_FILE):
        (partial / file).parent.mkdir(parents=True, exist_ok=True)
        (partial / file).write_text(f"content of {file}")
    (partial / "labels.json").write_text(json.dumps(LABELS))
    return partial


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "artifacts" / "tiny"
    path.mkdir(parents=True)
    return path


@pytest.fixture
def artifact(folder: Path) -> Path:
    return publish_artifact(make_partial(folder), folder, FIELDS)


def edit_manifest(artifact: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = artifact / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    is_known = "manifest_sha256" in manifest and manifest["schema_version"] == 3
    path.write_text(format_manifest(manifest) if is_known else json.dumps(manifest))


def test_a_published_artifact_reads_back(artifact: Path, folder: Path) -> None:
    found = read_artifact(artifact)
    assert (found.name, found.version, found.labels) == ("tiny", 1, LABELS)
    assert (found.max_tokens, found.vocab_size) == (16, 96)
    assert found.manifest["provenance"] == {"run": "one"}
    assert set(found.manifest["files"]) == {*REQUIRED_FILES, ORACLE_FILE}
    assert (folder / "latest").read_text() == "1\n"


def test_paths_of_every_form_exist(artifact: Path) -> None:
    found = read_artifact(artifact)
    for name in dir(Artifact):
        if name.endswith("_path"):
            assert getattr(found, name).exists(), name


def test_versions_count_up_numerically(folder: Path) -> None:
    for _ in range(11):
        publish_artifact(make_partial(folder), folder, FIELDS)
    assert sorted(iterate_versions(folder)) == list(range(1, 12))
    assert (folder / "latest").read_text() == "11\n"
    assert find_artifact(folder.parent).name == "11"


def test_nothing_is_published_without_a_required_file(folder: Path) -> None:
    partial = make_partial(folder)
    (partial / "model.onnx").unlink()
    with pytest.raises(BundleError, match=r"expected model.onnx before it is published, found no"):
        publish_artifact(partial, folder, FIELDS)
    assert list(iterate_versions(folder)) == []


def _publish_many(folder: Path, worker: int) -> None:
    for turn in range(5):
        publish_artifact(make_partial(folder, f".partial-{worker}-{turn}"), folder, FIELDS)


def test_two_publishers_never_take_the_same_version(folder: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_publish_many, args=(folder, worker)) for worker in (1, 2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert sorted(iterate_versions(folder)) == list(range(1, 11))
    for version in range(1, 11):
        assert read_artifact(folder / str(version)).version == version


def test_a_version_appears_only_by_its_rename(folder: Path, monkeypatch: Any) -> None:
    partial = make_partial(folder)

    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(13, "Permission denied", str(target))

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(PermissionError):
        publish_artifact(partial, folder, FIELDS)
    assert list(iterate_versions(folder)) == []
    assert not (folder / "latest").exists()


def test_partials_are_swept(folder: Path, artifact: Path) -> None:
    make_partial(folder, ".partial-99")
    remove_partials(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["1", "latest"]


def test_latest_can_be_healed(folder: Path, artifact: Path) -> None:
    (folder / "latest").unlink()
    write_latest(folder)
    assert (folder / "latest").read_text() == "1\n"


@pytest.mark.parametrize("name", [*REQUIRED_FILES, ORACLE_FILE])
def test_a_changed_byte_is_found(artifact: Path, name: str) -> None:
    content = bytearray((artifact / name).read_bytes())
    content[-1] ^= 1
    (artifact / name).write_bytes(content)
    with pytest.raises(BundleError, match=rf"{name}: expected sha256 [0-9a-f]{{64}} from manifest"):
        read_artifact(artifact)
    if name != "labels.json":
        read_artifact(artifact, check_hashes=False)


@pytest.mark.parametrize("name", REQUIRED_FILES)
def test_a_missing_file_is_found(artifact: Path, name: str) -> None:
    (artifact / name).unlink()
    with pytest.raises(BundleError, match=rf"{name}: expected this file, found none"):
        read_artifact(artifact, check_hashes=False)


def test_a_required_file_cannot_be_left_out_of_the_list(artifact: Path) -> None:
    (artifact / "model.onnx").unlink()
    edit_manifest(artifact, lambda manifest: manifest["files"].pop("model.onnx"))
    with pytest.raises(BundleError, match=r"model.onnx: expected this file, found none"):
        read_artifact(artifact)


def test_the_oracle_may_be_deleted(artifact: Path) -> None:
    (artifact / ORACLE_FILE).unlink()
    assert not read_artifact(artifact).oracle_path.exists()


def test_a_cut_file_is_found_without_hashing(artifact: Path) -> None:
    with (artifact / "model.onnx").open("r+b") as file:
        file.truncate(3)
    with pytest.raises(BundleError, match=r"model.onnx: expected 21 bytes .* found 3\. Copy the"):
        read_artifact(artifact, check_hashes=False)


def test_an_unlisted_file_is_refused(artifact: Path) -> None:
    (artifact / "lookup" / "extra.py").write_text("print()")
    with pytest.raises(BundleError, match=r"lookup/extra.py: expected only files that manifest"):
        read_artifact(artifact)


def test_byte_code_of_the_runtime_is_ignored(artifact: Path) -> None:
    (artifact / "lookup" / "__pycache__").mkdir()
    (artifact / "lookup" / "__pycache__" / "x.pyc").write_bytes(b"")
    read_artifact(artifact)


def test_links_are_refused(artifact: Path, tmp_path: Path) -> None:
    (artifact / "model.onnx").unlink()
    (tmp_path / "elsewhere").write_text("content of model.onnx")
    (artifact / "model.onnx").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match=r"model.onnx: expected a regular file, found a link"):
        read_artifact(artifact)


def test_linked_folders_are_refused(artifact: Path, tmp_path: Path) -> None:
    (artifact / "saved_model").rename(tmp_path / "moved")
    (artifact / "saved_model").symlink_to(tmp_path / "moved")
    with pytest.raises(BundleError, match=r"saved_model: expected a regular file, found a link"):
        read_artifact(artifact)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../b", "a\\b", "a//b", "./a"])
def test_unsafe_names_are_refused(artifact: Path, name: str) -> None:
    record = {"bytes": 1, "sha256": "0" * 64}
    edit_manifest(artifact, lambda manifest: manifest["files"].update({name: record}))
    with pytest.raises(BundleError, match=r"manifest.json files: expected relative paths, found"):
        read_artifact(artifact)


@pytest.mark.parametrize(
    "record", [None, {}, {"bytes": "1", "sha256": "0" * 64}, {"bytes": True, "sha256": "0"}]
)
def test_malformed_file_records_are_refused(artifact: Path, record: Any) -> None:
    edit_manifest(artifact, lambda manifest: manifest["files"].update({"model.onnx": record}))
    with pytest.raises(BundleError, match=r"files\['model.onnx'\]: expected bytes and sha256"):
        read_artifact(artifact)


@pytest.mark.parametrize(("key", "newest"), [("schema_version", 3), ("format_version", 3)])
@pytest.mark.parametrize("value", [4, 0, "1", None, True])
def test_reader_refuses_versions_it_does_not_know(
    artifact: Path, key: str, newest: int, value: Any
) -> None:
    edit_manifest(artifact, lambda manifest: manifest.update({key: value}))
    with pytest.raises(
        BundleError, match=rf"expected {key} 1 to {newest}, found {value!r}\. Upgrade"
    ):
        read_artifact(artifact)


def test_each_schema_version_has_its_own_keys(artifact: Path) -> None:
    young = ["compression", "manifest_sha256", "word_table"]
    edit_manifest(artifact, lambda manifest: manifest.update(schema_version=1))
    with pytest.raises(BundleError, match=re.escape(f"missing [], unknown {young}")):
        read_artifact(artifact)
    edit_manifest(artifact, lambda manifest: [manifest.pop(key) for key in young])
    assert "compression" not in read_artifact(artifact).manifest
    edit_manifest(artifact, lambda manifest: manifest.update(schema_version=2))
    with pytest.raises(BundleError, match=r"missing \['compression', 'word_table'\], unknown \[\]"):
        read_artifact(artifact)
    edit_manifest(artifact, lambda manifest: manifest.update(compression={}, word_table={}))
    assert "manifest_sha256" not in read_artifact(artifact).manifest


@pytest.mark.parametrize(
    ("old", "new"), [('"max_tokens": 16', '"max_tokens": 17'), ("\n", " "), ('"one"', '"One"')]
)
def test_a_manifest_holds_its_own_checksum(artifact: Path, old: str, new: str) -> None:
    path = artifact / "manifest.json"
    path.write_text(path.read_text().replace(old, new, 1))
    for check_hashes in (True, False):
        with pytest.raises(
            BundleError, match=r"manifest.json: expected manifest_sha256 [0-9a-f]{64}, found"
        ):
            read_artifact(artifact, check_hashes=check_hashes)


@pytest.mark.parametrize("digest", ["0" * 63, "A" * 64, None])
def test_a_checksum_that_is_none_is_refused(artifact: Path, digest: object) -> None:
    path = artifact / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "manifest_sha256": digest}))
    with pytest.raises(BundleError, match=r"manifest_sha256: expected 64 lower-case hex digits"):
        read_artifact(artifact)


def test_the_checksum_is_of_the_text_with_zeros_in_its_place(artifact: Path) -> None:
    text = (artifact / "manifest.json").read_text()
    digest = json.loads(text)["manifest_sha256"]
    assert hashlib.sha256(text.replace(digest, "0" * 64).encode()).hexdigest() == digest


def test_another_writer_may_leave_out_the_blanks(artifact: Path) -> None:
    path = artifact / "manifest.json"
    fields = json.loads(path.read_text()) | {"manifest_sha256": "0" * 64}
    data = json.dumps(fields, separators=(",", ":")).encode()
    value = b'"manifest_sha256":"%s"'
    digest = hashlib.sha256(data).hexdigest().encode()
    path.write_bytes(data.replace(value % (b"0" * 64), value % digest))
    assert read_artifact(artifact).name == "tiny"


def test_missing_and_unknown_keys_are_named(artifact: Path) -> None:
    edit_manifest(artifact, lambda manifest: manifest.update(extra=1) or manifest.pop("axes"))
    with pytest.raises(BundleError, match=r"missing \['axes'\], unknown \['extra'\]"):
        read_artifact(artifact)


@pytest.mark.parametrize("text", ["", "{", "nonsense", "[" * 100_000])
def test_a_manifest_that_is_no_json_is_refused(artifact: Path, text: str) -> None:
    (artifact / "manifest.json").write_text(text)
    with pytest.raises(BundleError, match=r"manifest.json: expected JSON, found"):
        read_artifact(artifact)


def test_a_manifest_that_is_no_object_is_refused(artifact: Path) -> None:
    (artifact / "manifest.json").write_text("[1]")
    with pytest.raises(BundleError, match=r"manifest.json: expected an object, found \[1\]"):
        read_artifact(artifact)


def test_an_oversized_manifest_is_not_read(artifact: Path) -> None:
    os.truncate(artifact / "manifest.json", MAX_MANIFEST_BYTES + 1)
    with pytest.raises(BundleError, match=r"expected at most 4194304 bytes, found 4194305"):
        read_artifact(artifact)


def test_labels_must_fit_the_model(artifact: Path) -> None:
    edit_manifest(artifact, lambda manifest: manifest["model"].update(num_classes=6))
    with pytest.raises(BundleError, match=r"labels.json: expected 6 labels .* found 5"):
        read_artifact(artifact)


def test_a_model_out_of_range_is_refused(artifact: Path) -> None:
    edit_manifest(artifact, lambda manifest: manifest["model"].update(units=0))
    with pytest.raises(BundleError, match=r"units: expected a value from 1 to 4096, found 0"):
        read_artifact(artifact)


def test_a_folder_that_is_no_artifact_is_told(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"manifest.json: no such file, so .* is not an artifact"):
        read_artifact(tmp_path)


def test_find_names_what_there_is(folder: Path, artifact: Path) -> None:
    artifacts = folder.parent
    assert find_artifact(artifacts) == find_artifact(artifacts, "tiny", 1) == artifact
    with pytest.raises(BundleError, match=r"no artifact named 'other'; there are: tiny\. Export"):
        find_artifact(artifacts, "other")
    with pytest.raises(BundleError, match=r"no version 2; there are: 1\."):
        find_artifact(artifacts, "tiny", 2)
    with pytest.raises(BundleError, match=r"expected 1 to 100 letters"):
        find_artifact(artifacts, "../tiny")


def test_find_without_any_artifact_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no artifact yet\. Export a run with `make export`"):
        find_artifact(tmp_path)


def test_find_takes_the_name_published_last(folder: Path, artifact: Path) -> None:
    other = folder.parent / "other"
    other.mkdir()
    published = publish_artifact(make_partial(other), other, FIELDS)
    os.utime(folder / "latest", ns=(0, 0))
    assert find_artifact(folder.parent) == published


@pytest.mark.parametrize(
    ("text", "version"), [("1\n", 1), ("2\n", 2), ("7\n", 2), ("two\n", 2), (None, 2)]
)
def test_find_takes_the_version_in_use_and_the_highest_where_none_is_named(
    folder: Path, artifact: Path, text: str | None, version: int
) -> None:
    publish_artifact(make_partial(folder), folder, FIELDS)
    (folder / "latest").unlink()
    if text is not None:
        (folder / "latest").write_text(text)
    assert find_artifact(folder.parent, folder.name) == folder / str(version)


def test_file_lists_are_sorted_and_relative(artifact: Path) -> None:
    names = list_files(artifact)
    assert names == sorted(names)
    assert "lookup/manifest.json" in names
