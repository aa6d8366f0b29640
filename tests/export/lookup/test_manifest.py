from __future__ import annotations

import dataclasses
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.lookup.config import LookupConfig, WordTableSizes
from export.lookup.errors import ManifestError, UnexpectedFileError, UnsupportedVersionError
from export.lookup.manifest import (
    SIDE_FILE_CAPS,
    FileRecord,
    LookupManifest,
    file_specs,
    format_manifest,
    parse_manifest,
)
from tests.export.lookup.seals import format_fields, make_older

CONFIG = LookupConfig(vocab_size=30, embed_dim=5, units=6, num_classes=4, layers=2)


def make_manifest(config=CONFIG, tolerance=1e-5, word_table=None) -> LookupManifest:
    names = file_specs(config, word_table).keys() | SIDE_FILE_CAPS.keys()
    return LookupManifest(
        config=config,
        max_tokens=16,
        files={name: FileRecord(size=7, sha256="0" * 64) for name in names},
        tolerance=tolerance,
        word_table=word_table,
    )


def make_version(version: int) -> dict:
    """Return the fields of `make_manifest` as an older version wrote them."""
    return make_older(json.loads(format_manifest(make_manifest())), version)


def parse_changed(*path, value, manifest=None):
    """Parse a sound manifest after setting the value at `path`; `...` removes the key."""
    fields = json.loads(format_manifest(manifest or make_manifest()))
    target = fields
    for key in path[:-1]:
        target = target[key]
    if value is ...:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    return parse_manifest(format_fields(fields), "manifest.json")


configs = st.builds(
    LookupConfig,
    vocab_size=st.integers(2, 1_000_000),
    embed_dim=st.integers(1, 4096),
    units=st.integers(1, 4096),
    num_classes=st.integers(2, 100_000),
    layers=st.integers(1, 8),
    bidirectional=st.booleans(),
    pooling=st.sampled_from(["last", "max", "mean"]),
    relu=st.booleans(),
    table_dtype=st.sampled_from(["float32", "float16", "int16", "int8"]),
    recurrent_dtype=st.sampled_from(["float32", "int16", "int8"]),
)
word_tables = st.builds(
    WordTableSizes,
    words=st.integers(1, 2_000_000),
    word_bytes=st.integers(1, 2**28),
    word_ids=st.integers(0, 2**26),
)


@given(configs, st.floats(1e-5, 1), st.none() | word_tables)
def test_parsing_gives_what_was_formatted(config, tolerance, word_table):
    manifest = make_manifest(config, 1e-5 if config.is_exact else tolerance, word_table)
    assert parse_manifest(format_manifest(manifest).encode(), "manifest.json") == manifest


def test_version_1_reads_as_exact_without_a_word_table():
    found = parse_manifest(json.dumps(make_version(1)).encode(), "manifest.json")
    assert found == make_manifest()
    assert (found.tolerance, found.word_table, found.config.is_exact) == (1e-5, None, True)


def test_version_2_reads_without_a_checksum():
    manifest = make_manifest(word_table=WordTableSizes(words=1, word_bytes=2, word_ids=3))
    fields = make_older(json.loads(format_manifest(manifest)), 2)
    assert parse_manifest(json.dumps(fields).encode(), "manifest.json") == manifest
    sealed = fields | {"manifest_sha256": "0" * 64}
    with pytest.raises(ManifestError, match=r"missing none, unknown manifest_sha256\."):
        parse_manifest(json.dumps(sealed).encode(), "manifest.json")


@pytest.mark.parametrize("name", ["table_dtype", "recurrent_dtype", "tolerance", "word_table"])
def test_version_1_has_no_key_of_version_2(name):
    fields = make_version(1) | {name: None}
    with pytest.raises(ManifestError, match=rf"missing none, unknown {name}\."):
        parse_manifest(json.dumps(fields).encode(), "manifest.json")


@pytest.mark.parametrize("version", [4, 0, -1, True, "1", 1.0, None])
def test_reader_refuses_other_format_versions(version):
    message = (
        f"manifest.json: expected format_version 1 to 3, found {version!r}. Use the runtime/ "
        "that lies in the artifact itself, or upgrade gatetable."
    )
    with pytest.raises(UnsupportedVersionError, match=re.escape(message)):
        parse_changed("format_version", value=version)


def test_reader_looks_at_the_version_before_anything_else():
    with pytest.raises(UnsupportedVersionError):
        parse_manifest(b'{"format": "gatetable-lookup", "format_version": 4}', "manifest.json")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "expected JSON, found a defect: Expecting value"),
        (b"\xff{}", "expected JSON, found a defect: 'utf-8' codec can't decode"),
        (b'{"format": 1, "format": 2}', "expected each key once, found 'format' twice."),
        (b'{"format": NaN}', "expected finite numbers, found NaN."),
        (b"[" * 100_000, "expected shallow JSON, found deep nesting."),
        (b"[]", "with format 'gatetable-lookup', found 'list'."),
        (b"{}", "with format 'gatetable-lookup', found None."),
    ],
)
def test_what_is_no_manifest_is_refused(data, message):
    with pytest.raises(ManifestError, match=re.escape(message)):
        parse_manifest(data, "manifest.json")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("extra",), 1, "missing none, unknown extra."),
        (("relu",), ..., "missing relu, unknown none."),
        (("axes",), [], "axes: expected an object, found list."),
        (("axes", "V"), 2**62, "vocab_size: expected an integer from 2 to 1000000, found 46"),
        (("axes", "H"), True, "units: expected an integer from 1 to 4096, found True."),
        (("axes", "T"), 1, "axes: expected the keys C, E, H, V; missing none, unknown T."),
        (("max_tokens",), 0, "max_tokens: expected an integer from 1 to 65536, found 0."),
        (("bidirectional",), "no", "bidirectional: expected true or false, found 'no'."),
        (("pooling",), ["max"], "pooling: expected one of last, max, mean, found ['max']."),
        (("files",), [], "files: expected an object, found list."),
        (("files", "head_bias.npy"), ..., "missing head_bias.npy, unknown none."),
        (("files", "head_bias.npy"), {}, "missing bytes, dtype, sha256, shape, unknown none."),
        (("files", "labels.json", "shape"), [], "missing none, unknown shape."),
        (
            ("files", "labels.json", "sha256"),
            "F" * 64,
            "files['labels.json'].sha256: expected 64 lower-case hex digits, found 'FFF",
        ),
        (
            ("files", "head_bias.npy", "bytes"),
            2**40,
            "files['head_bias.npy'].bytes: expected an integer from 0 to 1040, found 109951162777",
        ),
        (
            ("files", "head_bias.npy", "shape"),
            [5],
            "files['head_bias.npy']: expected dtype '<f4' and shape [4] from axes and options, "
            "found '<f4' and [5].",
        ),
        (("table_dtype",), "int4", "table_dtype: expected one of float32, float16, int16, int8, f"),
        (
            ("recurrent_dtype",),
            "float16",
            "recurrent_dtype: expected one of float32, int16, int8, found 'float16'.",
        ),
        (("table_dtype",), ["int8"], "table_dtype: expected one of float32, float16, int16, int8"),
        (("tolerance",), "1e-5", "tolerance: expected a number, found '1e-5'."),
        (("tolerance",), True, "tolerance: expected a number, found True."),
        (("tolerance",), 0.01, "tolerance: expected 1e-05 for exact arrays, found 0.01."),
        (("tolerance",), 1e-6, "tolerance: expected 1e-05 for exact arrays, found 1e-06."),
        (("word_table",), [], "word_table: expected an object, found list."),
        (("word_table",), {"words": 1}, "missing word_bytes, word_ids, unknown none."),
        (
            ("word_table",),
            {"words": 2_000_001, "word_bytes": 1, "word_ids": 1},
            "words: expected an integer from 1 to 2000000, found 2000001.",
        ),
        (
            ("word_table",),
            {"words": 1, "word_bytes": 1, "word_ids": 1},
            "missing word_bytes.npy, word_ends.npy, word_id_ends.npy, word_ids.npy, unknown none.",
        ),
    ],
)
def test_each_wrong_value_is_named(path, value, message):
    with pytest.raises(ManifestError, match=re.escape(message)):
        parse_changed(*path, value=value)


@pytest.mark.parametrize("value", [2, 1e-6, -1, 0])
def test_the_tolerance_of_compressed_arrays_is_bounded(value):
    config = dataclasses.replace(CONFIG, table_dtype="int8")
    with pytest.raises(ManifestError, match=re.escape(f"1e-05 to 1, found {value!r}.")):
        parse_changed("tolerance", value=value, manifest=make_manifest(config, 0.01))


def test_options_decide_which_files_there_are():
    config = dataclasses.replace(CONFIG, table_dtype="int8")
    with pytest.raises(ManifestError, match=r"missing gate_table_scale\.npy, gate_table_scale_ba"):
        parse_changed("table_dtype", value="int8")
    message = "version 3 has for these options, found 'gate_table_scale.npy' in its list"
    with pytest.raises(UnexpectedFileError, match=message):
        parse_changed("table_dtype", value="float16", manifest=make_manifest(config))


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd", "gate_table.pkl", "runtime/x.py"])
def test_file_names_the_format_does_not_have_are_refused(name):
    message = f"expected only files that version 3 has for these options, found {name!r} in its"
    with pytest.raises(UnexpectedFileError, match=re.escape(message)):
        parse_changed("files", name, value={"bytes": 1, "sha256": "0" * 64})


def test_formatting_does_not_depend_on_the_order_of_files():
    manifest = make_manifest()
    shuffled = dataclasses.replace(manifest, files=dict(reversed(list(manifest.files.items()))))
    assert format_manifest(shuffled) == format_manifest(manifest)
