from __future__ import annotations

import dataclasses
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.lookup.errors import ManifestError, UnexpectedFileError, UnsupportedVersionError
from export.lookup.manifest import (
    FileRecord,
    LookupConfig,
    LookupManifest,
    array_shapes,
    check_max_tokens,
    file_names,
    format_manifest,
    parse_manifest,
)

CONFIG = LookupConfig(vocab_size=30, embed_dim=5, units=6, num_classes=4, layers=2)


def make_manifest(config: LookupConfig = CONFIG) -> LookupManifest:
    files = {name: FileRecord(size=7, sha256="0" * 64) for name in file_names(config)}
    return LookupManifest(config=config, max_tokens=16, files=files)


def parse_changed(*path, value):
    """Parse a sound manifest after setting the value at `path`; `...` removes the key."""
    fields = json.loads(format_manifest(make_manifest()))
    target = fields
    for key in path[:-1]:
        target = target[key]
    if value is ...:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    return parse_manifest(json.dumps(fields).encode(), "manifest.json")


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
)


@given(configs)
def test_parsing_gives_what_was_formatted(config):
    manifest = make_manifest(config)
    assert parse_manifest(format_manifest(manifest).encode(), "manifest.json") == manifest


def test_shapes_follow_from_the_axes():
    assert array_shapes(dataclasses.replace(CONFIG, bidirectional=False)) == {
        "gate_table": (30, 18),
        "recurrent_kernel": (6, 18),
        "candidate_bias": (6,),
        "layer_1_kernel": (6, 18),
        "layer_1_bias": (18,),
        "layer_1_recurrent_kernel": (6, 18),
        "layer_1_candidate_bias": (6,),
        "head_kernel": (6, 4),
        "head_bias": (4,),
    }
    both = array_shapes(CONFIG)
    assert both["layer_1_kernel_backward"] == (12, 18)
    assert both["head_kernel"] == (12, 4)
    assert len(both) == 16


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 1}, "vocab_size: expected an integer from 2 to 1000000, found 1."),
        ({"units": 5000}, "units: expected an integer from 1 to 4096, found 5000."),
        ({"layers": True}, "layers: expected an integer from 1 to 8, found True."),
        ({"num_classes": 4.0}, "num_classes: expected an integer from 2 to 100000, found 4.0."),
        ({"relu": 1}, "relu: expected true or false, found 1."),
        ({"pooling": "sum"}, "pooling: expected one of last, max, mean, found 'sum'."),
    ],
)
def test_configs_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        dataclasses.replace(CONFIG, **changes)


@pytest.mark.parametrize("value", [0, 65_537, True, "16", None, 1.0])
def test_max_tokens_out_of_range_is_refused(value):
    with pytest.raises(ValueError, match=r"max_tokens: expected an integer from 1 to 65536, fo"):
        check_max_tokens(value)


@pytest.mark.parametrize("version", [2, 0, -1, True, "1", 1.0, None])
def test_reader_refuses_other_format_versions(version):
    message = (
        f"manifest.json: expected format_version 1, found {version!r}. Use the runtime/ that "
        "lies in the artifact itself, or upgrade gatetable."
    )
    with pytest.raises(UnsupportedVersionError, match=re.escape(message)):
        parse_changed("format_version", value=version)


def test_reader_looks_at_the_version_before_anything_else():
    with pytest.raises(UnsupportedVersionError):
        parse_manifest(b'{"format": "gatetable-lookup", "format_version": 2}', "manifest.json")


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
            "files['head_bias.npy']: expected dtype '<f4' and shape [4] from the axes, found "
            "'<f4' and [5].",
        ),
    ],
)
def test_each_wrong_value_is_named(path, value, message):
    with pytest.raises(ManifestError, match=re.escape(message)):
        parse_changed(*path, value=value)


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd", "gate_table.pkl", "runtime/x.py"])
def test_file_names_the_format_does_not_have_are_refused(name):
    message = f"manifest.json: expected only files that version 1 has, found {name!r} in its list."
    with pytest.raises(UnexpectedFileError, match=re.escape(message)):
        parse_changed("files", name, value={"bytes": 1, "sha256": "0" * 64})


def test_formatting_does_not_depend_on_the_order_of_files():
    manifest = make_manifest()
    shuffled = dataclasses.replace(manifest, files=dict(reversed(list(manifest.files.items()))))
    assert format_manifest(shuffled) == format_manifest(manifest)
