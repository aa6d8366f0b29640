"""What the C reader says about damaged folders; the Python reader's tests have the same cases."""

from __future__ import annotations

import json
import os
import re

import numpy as np
import pytest

from export.lookup import write_lookup
from export.lookup.arrays import write_array
from tests.export.lookup.c_programs import COMPILER, FORMAT, IO, OK, REMEDY
from tests.export.lookup.seals import edit_manifest

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler here")


def write_side_file(folder, name: str, data: bytes) -> None:
    """Replace a side file and its length in the manifest."""
    (folder / name).write_bytes(data)
    set_bytes(folder, name, len(data))


def set_bytes(folder, name: str, count: int) -> None:
    """Change a file's length in the manifest."""
    edit_manifest(folder, lambda manifest: manifest["files"][name].update(bytes=count))


def set_values(folder, name: str, index, value) -> None:
    array = np.load(folder / f"{name}.npy")
    array[index] = value
    write_array(folder / f"{name}.npy", array)


# ---- entries


def test_a_missing_folder_is_told(read_in_c, tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    for name in ("none", "file", "file/below"):
        assert read_in_c(tmp_path / name) == (
            IO,
            f"{tmp_path / name}: expected a lookup folder, found none. Give the path of an "
            "artifact's lookup/ folder.",
        )


def test_a_folder_without_manifest_is_told(read_in_c, tmp_path):
    assert read_in_c(tmp_path) == (
        IO,
        f"{tmp_path}/manifest.json: no such file, so this is not a lookup folder. Give the path "
        "of an artifact's lookup/ folder.",
    )


@pytest.mark.parametrize("name", ["head_bias.npy", "golden.jsonl", "word_ids.npy"])
def test_a_missing_file_is_told(read_in_c, everything, name):
    (everything / name).unlink()
    assert read_in_c(everything) == (
        IO,
        f"{everything}/{name}: listed in manifest.json, found no such file.{REMEDY}",
    )


@pytest.mark.parametrize("name", ["evil.py", ".DS_Store", "gate_table_2.npy"])
def test_an_extra_file_is_refused(read_in_c, everything, name):
    (everything / name).write_bytes(b"x")
    assert read_in_c(everything) == (
        FORMAT,
        f"{everything}/{name}: expected only files that manifest.json lists, found this one. "
        "Remove it, or copy the artifact again.",
    )


def test_a_file_by_the_name_of_the_runtime_folder_is_refused(read_in_c, folder):
    (folder / "runtime").rename(folder.parent / "elsewhere")
    assert read_in_c(folder)[0] == OK
    (folder / "runtime").write_bytes(b"x")
    status, message = read_in_c(folder)
    assert status == FORMAT and "runtime: expected only files that manifest.json" in message


@pytest.mark.parametrize("kind", ["link", "dangling link", "folder", "pipe"])
@pytest.mark.parametrize("name", ["manifest.json", "gate_table.npy", "tokenizer.model"])
def test_what_is_no_regular_file_is_refused_without_opening_it(
    read_in_c, everything, tmp_path, kind, name
):
    (everything / name).rename(tmp_path / "elsewhere")
    if kind == "folder":
        (everything / name).mkdir()
    elif kind == "pipe":
        os.mkfifo(everything / name)
    else:
        (everything / name).symlink_to(tmp_path / ("elsewhere" if kind == "link" else "nowhere"))
    found = "a symbolic link" if "link" in kind else "something else"
    assert read_in_c(everything) == (
        FORMAT,
        f"{everything}/{name}: expected a regular file, found {found}. Copy the files "
        "themselves into the folder.",
    )


@pytest.mark.parametrize(
    ("name", "cap"), [("manifest.json", 2**20), ("labels.json", 2**26), ("golden.jsonl", 2**29)]
)
def test_files_above_their_cap_are_refused(read_in_c, everything, name, cap):
    os.truncate(everything / name, cap + 1)
    assert read_in_c(everything) == (
        FORMAT,
        f"{everything}/{name}: expected at most {cap} bytes, found {cap + 1}.{REMEDY}",
    )


@pytest.mark.parametrize("name", ["gate_table.npy", "tokenizer.model", "word_ends.npy"])
@pytest.mark.parametrize("change", [-1, 1])
def test_another_length_is_refused(read_in_c, everything, name, change):
    size = (everything / name).stat().st_size
    os.truncate(everything / name, size + change)
    assert read_in_c(everything) == (
        FORMAT,
        f"{everything}/{name}: expected {size} bytes from manifest.json, found {size + change}."
        f"{REMEDY}",
    )


def test_long_and_strange_paths_stay_readable(read_in_c, tmp_path):
    deep = tmp_path / ("é" * 100) / ("b" * 200)
    deep.mkdir(parents=True)
    (deep / "x\ny\x7f").write_bytes(b"")
    (deep / "manifest.json").write_bytes(b"{}")
    status, message = read_in_c(deep)
    assert status == FORMAT and message.startswith("...") and len(message.encode()) < 512
    assert "manifest.json: expected the manifest of a lookup folder" in message
    (deep / "manifest.json").unlink()
    (deep / "a\nb").symlink_to("x")
    assert "/a?b: expected a regular file, found a symbolic link." in read_in_c(deep)[1]


# ---- arrays


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            b"\x93NUMPY\x01",
            b"\x93NUMPY\x02",
            "expected a .npy file of version 1.0, found it begins",
        ),
        (
            b"v\0{",
            b"\xff\xff{",
            "expected a header of at most 1024 bytes inside the file, found one",
        ),
        (
            b"<f4",
            b">f4",
            "expected the header {'descr': '<f4', 'fortran_order': False, 'shape': (12",
        ),
        (
            b"False",
            b"True ",
            "expected the header {'descr': '<f4', 'fortran_order': False, 'shape'",
        ),
        (
            b"(12, 4)",
            b"(4, 12)",
            "from manifest.json, found {'descr': '<f4', 'fortran_order': Fals",
        ),
        (
            b"(12, 4)",
            b"(12,4) ",
            "expected the header {'descr': '<f4', 'fortran_order': False, 'sh",
        ),
        (
            b" \n",
            b"x\n",
            "expected the header {'descr': '<f4', 'fortran_order': False, 'shape': (1",
        ),
        (
            b"v\0{",
            b"u\0{",
            "expected the header {'descr': '<f4', 'fortran_order': False, 'shape': ",
        ),
    ],
)
def test_headers_that_numpy_would_not_write_are_refused(read_in_c, everything, old, new, message):
    path = everything / "head_kernel.npy"
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))
    status, found = read_in_c(everything)
    assert status == FORMAT and f"{path}: " in found and message in found


def test_data_must_begin_at_a_cache_line(read_in_c, everything):
    path = everything / "head_bias.npy"
    data = path.read_bytes()
    data = data[:8] + (119).to_bytes(2, "little") + data[10:127] + b" \n" + data[128:]
    path.write_bytes(data)
    set_bytes(everything, "head_bias.npy", len(data))
    assert read_in_c(everything) == (
        FORMAT,
        f"{path}: expected the data at a multiple of 64 bytes, found it at 129.{REMEDY}",
    )


def test_a_length_that_only_the_manifest_agrees_with_is_refused(read_in_c, everything):
    path = everything / "head_bias.npy"
    path.write_bytes(path.read_bytes() + b"\0" * 4)
    set_bytes(everything, "head_bias.npy", 148)
    assert read_in_c(everything) == (
        FORMAT,
        f"{path}: expected 144 bytes for shape (4,), found 148.{REMEDY}",
    )


@pytest.mark.parametrize("value", [np.nan, -np.inf, 3e38, -1.1e30])
@pytest.mark.parametrize("name", ["gate_table", "head_bias", "layer_1_kernel_backward"])
def test_weights_that_lead_to_infinity_are_refused(read_in_c, folder, name, value):
    set_values(folder, name, -1, value)
    status, message = read_in_c(folder)
    assert status == FORMAT
    assert re.search(
        rf"/{name}\.npy: expected finite weights up to 1e\+30, found -?(nan|inf|3e\+38|1\.1e\+30) "
        r"at position \d+\. Train and export again\.$",
        message,
    )


def test_the_largest_weights_still_give_probabilities(read_in_c, folder):
    for name, value in (("gate_table", 1e30), ("head_kernel", -1e30), ("layer_1_kernel", 1e30)):
        set_values(folder, name, ..., value)
    assert read_in_c(folder) == (OK, "ok")


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_half_floats_must_be_finite(read_in_c, tmp_path, raw_model, content, compressed, value):
    model = raw_model()
    stored = compressed(model, "float16", "float32") | {"tolerance": 0.5}
    write_lookup(tmp_path / "half", **(content(model) | stored))
    assert read_in_c(tmp_path / "half") == (OK, "ok")
    set_values(tmp_path / "half", "gate_table", (7, 3), value)
    assert read_in_c(tmp_path / "half") == (
        FORMAT,
        f"{tmp_path}/half/gate_table.npy: expected finite weights, found NaN or infinity. Train "
        "and export again.",
    )


@pytest.mark.parametrize("value", [0, -1, np.nan, np.inf, 1.1e25])
@pytest.mark.parametrize("name", ["gate_table_scale", "layer_1_recurrent_kernel_scale_backward"])
def test_scales_are_above_zero(read_in_c, everything, name, value):
    set_values(everything, name, -1, value)
    status, message = read_in_c(everything)
    assert status == FORMAT
    assert f"/{name}.npy: expected scales above 0 and up to 1e+25, found " in message


def test_integers_of_a_kernel_are_bounded_on_both_sides(read_in_c, everything):
    set_values(everything, "recurrent_kernel", (2, 2), -128)
    assert read_in_c(everything) == (
        FORMAT,
        f"{everything}/recurrent_kernel.npy: expected integers from -127 to 127, found -128."
        f"{REMEDY}",
    )


@pytest.mark.parametrize(("value", "status"), [(21845, OK), (21846, FORMAT)])
def test_no_column_may_overflow_int32(
    read_in_c, tmp_path, raw_model, content, compressed, value, status
):
    model = raw_model()
    stored = compressed(model, "float32", "int16") | {"tolerance": 0.5}
    write_lookup(tmp_path / "wide", **(content(model) | stored))
    set_values(tmp_path / "wide", "recurrent_kernel", ..., 0)
    set_values(tmp_path / "wide", "recurrent_kernel", np.s_[:, 17], [value, -value] * 3)
    found, message = read_in_c(tmp_path / "wide")
    assert found == status
    if status == FORMAT:
        assert message == (
            f"{tmp_path}/wide/recurrent_kernel.npy: expected columns whose magnitudes add up to "
            f"at most 131071, found 131076 in column 17.{REMEDY}"
        )


@pytest.mark.parametrize("name", ["gate_table", "gate_table_scale_backward"])
def test_padding_must_count_as_unknown(read_in_c, everything, name):
    array = np.load(everything / f"{name}.npy")
    set_values(everything, name, 0, array[1] * 2 + 1)
    assert read_in_c(everything) == (
        FORMAT,
        f"{everything}/{name}.npy: expected row 0 (padding) equal to row 1 (unknown), found them "
        f"to differ.{REMEDY}",
    )


# ---- words and labels


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("word_ends", [0, 4, 6], "word_ends.npy: expected rising ends of words that are not empty"),
        ("word_ends", [1, 1, 6], "word_ends.npy: expected rising ends of words that are not empty"),
        ("word_ends", [1, 2**32 - 1, 6], "word_ends.npy: expected rising ends of words that are"),
        ("word_ends", [1, 4, 7], "word_ends.npy: expected the last to be the length of word_bytes"),
        ("word_id_ends", [1, 0, 3], "word_id_ends.npy: expected ends that never fall, found other"),
        ("word_id_ends", [1, 3, 4], "word_id_ends.npy: expected the last to be the length of word"),
        ("word_ids", [3, 2, 30], "word_ids.npy: expected ids of the vocabulary, found otherwise a"),
        ("word_ids", [3, -1, 5], "word_ids.npy: expected ids of the vocabulary, found otherwise a"),
        ("word_bytes", list(b"a at\xc3\xa9"), "word_bytes.npy: expected UTF-8 without a space"),
        ("word_bytes", list(b"acat\xc3a"), "word_bytes.npy: expected UTF-8 without a space, fou"),
        ("word_ends", [1, 5, 6], "word_bytes.npy: expected UTF-8 without a space, found otherwise"),
        ("word_bytes", list(b"zcat\xc3\xa9"), "word_bytes.npy: expected distinct words sorted by"),
        ("word_bytes", list(b"acatca"), "word_bytes.npy: expected distinct words sorted by bytes"),
    ],
)
def test_word_tables_that_cannot_be_searched_are_refused(
    read_in_c, everything, name, values, message
):
    set_values(everything, name, ..., np.array(values, np.load(everything / f"{name}.npy").dtype))
    status, found = read_in_c(everything)
    assert status == FORMAT and message in found


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "expected a JSON list of strings, found something else at byte 0."),
        (b"{}", "expected a JSON list of strings, found something else at byte 0."),
        (b"[" * 10**6, "expected a JSON list of strings, found no string where one was expected a"),
        (b'["a", "b", "c", 4]', "found no string where one was expected at byte 16."),
        (b'["a", "b", "c", "d"] x', "expected a JSON list of strings, found something else at byt"),
        (b'["a", "b", "c", "d"', "expected a JSON list of strings, found something else at byte 1"),
        (b'["a", "b", "c", "\xff"]', "found bytes that are not UTF-8 at byte 17."),
        (b'["a", "b", "c", "\\u0000"]', "found the character U+0000 at byte 23."),
        (b'["a", "b", "c"]', "labels: expected 4, found 3."),
        (b"[]", "labels: expected 4, found 0."),
        (b'["a", "b", "c", "d", "e"]', "labels: expected 4, found 5."),
        (b'["a", "b\\n", "c", "b\\u000a"]', "labels: expected distinct ones, found 'b?' twice."),
    ],
)
def test_labels_are_distinct_strings(read_in_c, everything, data, message):
    write_side_file(everything, "labels.json", data)
    status, found = read_in_c(everything)
    assert status == FORMAT and f"{everything}/labels.json: labels: " in found and message in found


def test_labels_of_any_script_and_length_pass(read_in_c, everything):
    labels = ["", "🙂\\ud83d", "é" * 100_000, '\t"\\/']
    for ensure_ascii in (False, True):
        write_side_file(
            everything, "labels.json", json.dumps(labels, ensure_ascii=ensure_ascii).encode()
        )
        assert read_in_c(everything) == (OK, "ok")
