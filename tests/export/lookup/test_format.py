from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pytest

from export.lookup import (
    ArrayTypeError,
    ArtifactError,
    GoldenError,
    LabelsError,
    NonFiniteError,
    PaddingRowError,
    QuantisationError,
    WordArrays,
    WordTableError,
    load_lookup,
    read_lookup,
    write_lookup,
)
from export.lookup import format as lookup_format
from export.lookup.arrays import write_array
from tests.export.lookup.seals import edit_manifest, make_older

WORDS = WordArrays(
    word_bytes=np.frombuffer("cat고양이".encode(), np.uint8),
    word_ends=np.array([3, 12], np.uint32),
    word_ids=np.array([7, 0, 29], np.int32),
    word_id_ends=np.array([2, 3], np.uint32),
)


def forge(folder, name, data: bytes):
    """Replace a file and make the manifest agree with the new bytes."""
    import hashlib

    (folder / name).write_bytes(data)
    record = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    edit_manifest(folder, lambda manifest: manifest["files"][name].update(record))


def forge_array(folder, name, array):
    path = folder / name
    write_array(path, array)
    forge(folder, name, path.read_bytes())


def all_bytes(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def as_content(files):
    return {
        field.name: getattr(files, field.name)
        for field in dataclasses.fields(files)
        if field.name != "folder"
    }


def test_writing_what_was_read_gives_identical_bytes(folder, tmp_path):
    write_lookup(tmp_path / "again", **as_content(read_lookup(folder)))
    assert all_bytes(tmp_path / "again") == all_bytes(folder)


def test_reading_gives_what_was_written(tmp_path, raw_model, content):
    written = content(raw_model())
    write_lookup(tmp_path / "lookup", **written)
    found = as_content(read_lookup(tmp_path / "lookup"))
    arrays = found.pop("arrays")
    for name, array in written.pop("arrays").items():
        np.testing.assert_array_equal(arrays[name], array)
    for probe, original in zip(found.pop("golden"), written.pop("golden"), strict=True):
        assert (probe.text, probe.ids) == (original.text, original.ids)
        assert np.allclose(probe.probabilities, original.probabilities, atol=1e-7)
    defaults = {"tolerance": 1e-5, "words": None}
    assert found == defaults | written | {"labels": tuple(written["labels"])}


@pytest.mark.parametrize(
    ("table_dtype", "recurrent_dtype"),
    [("float16", "float32"), ("int16", "int8"), ("int8", "int16"), ("float32", "int8")],
)
def test_compressed_arrays_come_back_with_identical_bytes(
    tmp_path, raw_model, content, compressed, table_dtype, recurrent_dtype
):
    raw = raw_model(layers=2)
    parts = compressed(raw, table_dtype, recurrent_dtype) | {"tolerance": 0.25}
    write_lookup(tmp_path / "lookup", **(content(raw) | parts))
    for check_hashes in (True, False):
        found = read_lookup(tmp_path / "lookup", check_hashes=check_hashes)
        assert (found.config, found.tolerance) == (parts["config"], 0.25)
        for name, array in parts["arrays"].items():
            assert found.arrays[name].dtype == array.dtype
            np.testing.assert_array_equal(found.arrays[name], array)
    write_lookup(tmp_path / "again", **as_content(found))
    assert all_bytes(tmp_path / "again") == all_bytes(tmp_path / "lookup")


def test_a_word_table_comes_back_with_identical_bytes(tmp_path, raw_model, content):
    written = content(raw_model()) | {"words": WORDS}
    write_lookup(tmp_path / "lookup", **written)
    found = read_lookup(tmp_path / "lookup")
    for name, array in vars(WORDS).items():
        np.testing.assert_array_equal(getattr(found.words, name), array)
    write_lookup(tmp_path / "again", **as_content(found))
    assert all_bytes(tmp_path / "again") == all_bytes(tmp_path / "lookup")


def test_a_word_table_may_hold_no_id_at_all(tmp_path, raw_model, content):
    words = dataclasses.replace(
        WORDS, word_ids=np.zeros(0, np.int32), word_id_ends=np.zeros(2, np.uint32)
    )
    write_lookup(tmp_path / "lookup", **(content(raw_model()) | {"words": words}))
    assert read_lookup(tmp_path / "lookup").words.word_ids.shape == (0,)


def test_the_runtime_travels_in_the_folder(folder):
    names = {path.name for path in (folder / "runtime").iterdir()}
    assert {"__init__.py", "format.py", "model.py", "gru.py"} <= names
    assert {path.suffix for path in (folder / "runtime").rglob("*.*")} <= {".py", ".c", ".h"}


def test_the_kernel_travels_as_source_only(tmp_path, monkeypatch):
    package = tmp_path / "package"
    sources = ["format.py", "kernel/a.c", "kernel/a.h", "kernel/build.py"]
    for name in (*sources, "kernel/a.o", "kernel/a.so", "notes.txt", "other/a.c"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(name)
    monkeypatch.setattr(lookup_format, "__file__", str(package / "format.py"))
    lookup_format._copy_runtime(tmp_path / "runtime")
    assert sorted(all_bytes(tmp_path / "runtime")) == sources


def test_labels_are_kept_in_any_script(tmp_path, raw_model, content):
    written = content(raw_model()) | {"labels": ["고양이", "a\u2028b", "", "🙂\n"]}
    write_lookup(tmp_path / "lookup", **written)
    assert list(read_lookup(tmp_path / "lookup").labels) == written["labels"]


# ---- the writer refuses what the reader would


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_tokens": 0}, "max_tokens: expected an integer from 1 to 65536, found 0."),
        ({"labels": ["a", "b", "c"]}, "labels: expected 4, found 3."),
        ({"labels": ["a", "b", "a", "c"]}, "labels: expected distinct ones, found 'a' twice."),
        ({"labels": [1, 2, 3, 4]}, "labels: expected a list of strings, found something else."),
        ({"golden": []}, "golden: expected at least one probe, found none."),
        ({"tokenizer": b""}, "tokenizer.model: expected 1 to 67108864 bytes, found 0."),
    ],
)
def test_writer_refuses_content_that_does_not_fit(tmp_path, raw_model, content, changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        write_lookup(tmp_path / "lookup", **(content(raw_model()) | changes))
    assert not list(tmp_path.iterdir())


def test_writer_names_the_probe_that_does_not_fit(tmp_path, raw_model, content):
    written = content(raw_model())
    written["golden"][1] = dataclasses.replace(written["golden"][1], ids=(99,))
    with pytest.raises(ValueError, match=r"golden\[1\]\.ids: expected 0 to 29, found 99\."):
        write_lookup(tmp_path / "lookup", **written)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("head_bias"), "missing head_bias, unknown none."),
        (lambda a: a.update(other=a["head_bias"]), "missing none, unknown other."),
        (
            lambda a: a.update(head_bias=np.zeros(5, np.float32)),
            "arrays['head_bias']: expected float32 (4,), found float32 (5,).",
        ),
        (
            lambda a: a.update(head_bias=np.zeros(4)),
            "arrays['head_bias']: expected float32 (4,), found float64 (4,).",
        ),
        (
            lambda a: a.update(head_bias=np.full(4, np.nan, np.float32)),
            "arrays['head_bias']: expected finite values, found NaN or infinity.",
        ),
        (
            lambda a: a.update(head_bias=np.zeros(4, np.int8)),
            "arrays['head_bias']: expected float32 (4,), found int8 (4,).",
        ),
        (
            lambda a: a["gate_table"].__setitem__(0, 0.5),
            "arrays['gate_table']: expected row 0 (padding) equal to row 1 (unknown), found "
            "them to differ.",
        ),
    ],
)
def test_writer_refuses_arrays_that_do_not_fit(tmp_path, raw_model, content, change, message):
    written = content(raw_model())
    change(written["arrays"])
    with pytest.raises(ValueError, match=re.escape(message)):
        write_lookup(tmp_path / "lookup", **written)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("gate_table_scale", (5, 0), "expected scales above 0, found 0.0."),
        ("gate_table_scale", (0, 9), "expected row 0 (padding) equal to row 1 (unknown), found"),
        ("recurrent_kernel", (0, -128), "expected integers from -127 to 127, found -128."),
    ],
)
def test_writer_refuses_compressed_arrays_that_do_not_fit(
    tmp_path, raw_model, content, compressed, name, change, message
):
    raw = raw_model()
    parts = compressed(raw, "int8", "int8") | {"tolerance": 0.5}
    parts["arrays"][name][change[0]] = change[1]
    with pytest.raises(ValueError, match=re.escape(f"arrays[{name!r}]: {message}")):
        write_lookup(tmp_path / "lookup", **(content(raw) | parts))


def test_writer_refuses_words_that_do_not_fit(tmp_path, raw_model, content):
    for changes, message in (
        ({"word_ids": np.int32([7, 0, 30])}, "word_ids: expected 0 to 29, found 30."),
        ({"word_bytes": np.frombuffer(b"cat cat cats", np.uint8)}, "without the space 0x20"),
        ({"word_ends": np.int32([3, 12])}, "arrays['word_ends']: expected uint32 (2,), found int3"),
    ):
        words = dataclasses.replace(WORDS, **changes)
        with pytest.raises(ValueError, match=re.escape(message)):
            write_lookup(tmp_path / "lookup", **(content(raw_model()) | {"words": words}))


def test_writer_keeps_the_tolerance_of_exact_arrays(tmp_path, raw_model, content):
    with pytest.raises(ValueError, match="tolerance: expected 1e-05 for exact arrays, found 0.1."):
        write_lookup(tmp_path / "lookup", **(content(raw_model()) | {"tolerance": 0.1}))


def test_writer_replaces_nothing(folder, raw_model, content):
    with pytest.raises(FileExistsError, match=r"lookup: expected a new folder, found an existing"):
        write_lookup(folder, **content(raw_model()))


def test_writer_starts_over_what_a_killed_one_left(tmp_path, raw_model, content):
    (tmp_path / ".lookup.partial").mkdir()
    (tmp_path / ".lookup.partial" / "rubbish").write_bytes(b"x")
    write_lookup(tmp_path / "lookup", **content(raw_model()))
    read_lookup(tmp_path / "lookup")
    assert [path.name for path in tmp_path.iterdir()] == ["lookup"]


# ---- damaged folders, one for every cause; what shows from outside is in test_folder_scan.py


@pytest.mark.parametrize("version", [1, 2])
def test_reader_still_takes_older_versions(folder, version):
    path = folder / "manifest.json"
    expected = read_lookup(folder)
    path.write_text(json.dumps(make_older(json.loads(path.read_text()), version)))
    found = read_lookup(folder)
    assert (found.config, found.tolerance, found.words) == (expected.config, 1e-5, None)


def test_header_is_refused_before_the_checksum(folder):
    data = (folder / "head_bias.npy").read_bytes()
    (folder / "head_bias.npy").write_bytes(data.replace(b"<f4", b">f4"))
    with pytest.raises(ArrayTypeError):
        read_lookup(folder)


def test_every_header_is_looked_at_before_any_checksum(folder):
    (folder / "candidate_bias.npy").write_bytes(
        (folder / "candidate_bias.npy").read_bytes()[:-1] + b"x"
    )
    data = (folder / "head_bias.npy").read_bytes()
    (folder / "head_bias.npy").write_bytes(data.replace(b"<f4", b">f4"))
    with pytest.raises(ArrayTypeError):
        read_lookup(folder)


def test_reader_refuses_nan_that_has_a_right_checksum(folder):
    forge_array(folder, "head_bias.npy", np.array([0, np.nan, 0, 0], np.float32))
    message = r"head_bias\.npy: expected finite weights, found NaN or infinity\. Train and export"
    for check_hashes in (True, False):
        with pytest.raises(NonFiniteError, match=message):
            read_lookup(folder, check_hashes=check_hashes)


def test_reader_refuses_infinity_in_the_table_when_it_reads_it(folder):
    table = np.array(read_lookup(folder).arrays["gate_table"])
    table[7, 3] = -np.inf
    forge_array(folder, "gate_table.npy", table)
    with pytest.raises(NonFiniteError, match=r"gate_table\.npy: expected finite weights"):
        read_lookup(folder)


@pytest.mark.parametrize("check_hashes", [True, False])
@pytest.mark.parametrize("name", ["gate_table", "gate_table_backward"])
def test_reader_refuses_padding_that_is_no_unknown_token(folder, name, check_hashes):
    table = np.array(read_lookup(folder).arrays[name])
    table[0, 17] += 1
    forge_array(folder, f"{name}.npy", table)
    message = f"{name}.npy: expected row 0 (padding) equal to row 1 (unknown), found them to diff"
    with pytest.raises(PaddingRowError, match=re.escape(message)):
        read_lookup(folder, check_hashes=check_hashes)


@pytest.fixture
def compressed_folder(tmp_path, raw_model, content, compressed):
    raw = raw_model()
    parts = compressed(raw, "int8", "int16") | {"tolerance": 0.5}
    write_lookup(tmp_path / "compressed", **(content(raw) | parts))
    return tmp_path / "compressed"


@pytest.mark.parametrize("check_hashes", [True, False])
@pytest.mark.parametrize("name", ["gate_table_scale", "recurrent_kernel_scale_backward"])
@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (0, QuantisationError, "expected scales above 0, found 0.0. Copy the artifact again"),
        (np.nan, NonFiniteError, "expected finite weights, found NaN or infinity."),
    ],
)
def test_reader_refuses_scales_that_are_none(
    compressed_folder, check_hashes, name, value, error, message
):
    scale = np.array(read_lookup(compressed_folder).arrays[name])
    scale[4] = value
    forge_array(compressed_folder, f"{name}.npy", scale)
    with pytest.raises(error, match=re.escape(f"{name}.npy: {message}")):
        read_lookup(compressed_folder, check_hashes=check_hashes)


def test_reader_refuses_kernels_that_could_overflow(compressed_folder):
    kernel = np.full((6, 18), 32767, np.int16)
    forge_array(compressed_folder, "recurrent_kernel.npy", kernel)
    message = "recurrent_kernel.npy: expected columns whose magnitudes add up to at most 131071"
    with pytest.raises(QuantisationError, match=re.escape(message)):
        read_lookup(compressed_folder, check_hashes=False)


def test_reader_refuses_a_table_of_another_type(compressed_folder):
    forge_array(compressed_folder, "gate_table.npy", np.zeros((30, 18), np.int16))
    message = "gate_table.npy: expected dtype '|i1' in C order, found '<i2' in C order."
    with pytest.raises(ArrayTypeError, match=re.escape(message)):
        read_lookup(compressed_folder)


def test_reader_refuses_nan_among_half_floats(tmp_path, raw_model, content, compressed):
    raw = raw_model()
    parts = compressed(raw, "float16", "float32") | {"tolerance": 0.5}
    write_lookup(tmp_path / "half", **(content(raw) | parts))
    table = np.array(parts["arrays"]["gate_table"])
    table[29, 17] = np.nan
    forge_array(tmp_path / "half", "gate_table.npy", table)
    with pytest.raises(NonFiniteError, match=r"gate_table\.npy: expected finite weights"):
        read_lookup(tmp_path / "half")


@pytest.fixture
def word_folder(tmp_path, raw_model, content):
    write_lookup(tmp_path / "words", **(content(raw_model()) | {"words": WORDS}))
    return tmp_path / "words"


@pytest.mark.parametrize("check_hashes", [True, False])
@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("word_ends", np.uint32([3, 13]), "word_ends: expected the last to be 12, the length of"),
        ("word_id_ends", np.uint32([4, 3]), "word_id_ends: expected ends that never fall. Copy"),
        ("word_ids", np.int32([7, -1, 29]), "word_ids: expected 0 to 29, found -1. Copy the art"),
    ],
)
def test_reader_refuses_a_word_table_that_leads_outside(
    word_folder, check_hashes, name, array, message
):
    forge_array(word_folder, f"{name}.npy", array)
    with pytest.raises(WordTableError, match=re.escape(f"words: {message}")):
        read_lookup(word_folder, check_hashes=check_hashes)


def test_reader_refuses_words_out_of_order_where_it_reads_them(word_folder):
    data = np.frombuffer(b"zatcatcatcat", np.uint8)
    forge_array(word_folder, "word_bytes.npy", data)
    with pytest.raises(WordTableError, match="distinct words sorted by bytes, found b'catcatcat'"):
        read_lookup(word_folder)
    read_lookup(word_folder, check_hashes=False)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{}", "labels: expected a list of strings, found something else."),
        (b'["a", "b", "c", 4]', "labels: expected a list of strings, found something else."),
        (b'["a", "b", "c"]', "labels: expected 4, found 3."),
        (b'["a", "b", "c", "b"]', "labels: expected distinct ones, found 'b' twice."),
        (b'["a", "b", "c", "\xff"]', "'utf-8' codec can't decode byte 0xff"),
        (b"[", "Expecting value"),
    ],
)
def test_reader_refuses_wrong_labels(folder, data, message):
    forge(folder, "labels.json", data)
    with pytest.raises(LabelsError, match=r"labels\.json: " + re.escape(message)):
        read_lookup(folder)


def test_reader_refuses_a_golden_file_of_other_classes(folder):
    forge(folder, "golden.jsonl", b'{"text": "", "ids": [1], "probabilities": [1.0]}\n')
    with pytest.raises(GoldenError, match=r"golden\.jsonl line 1: probabilities: expected 4, fo"):
        read_lookup(folder)


def test_without_checksums_a_flipped_byte_passes(folder):
    data = bytearray((folder / "gate_table.npy").read_bytes())
    data[-3] ^= 1
    (folder / "gate_table.npy").write_bytes(data)
    read_lookup(folder, check_hashes=False)


def test_every_error_is_an_artifact_error(folder):
    (folder / "manifest.json").write_bytes(b"")
    with pytest.raises(ArtifactError):
        load_lookup(folder)


def test_an_import_of_the_runtime_does_not_spoil_the_folder(folder):
    (folder / "runtime" / "__pycache__").mkdir()
    read_lookup(folder)
