"""What the C reader says about manifests, and about JSON that is none."""

from __future__ import annotations

import json

import pytest

from tests.export.lookup.c_programs import (
    COMPILER,
    DRIVER,
    FORMAT,
    OK,
    REMEDY,
    VERSION,
    compile_c,
    run_c,
)
from tests.export.lookup.seals import edit_manifest, make_older, reseal

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler here")


@pytest.mark.parametrize(
    ("text", "defect"),
    [
        ("", "no value where one was expected at byte 0"),
        ("[" * 100_000, "deep nesting at byte 9"),
        ('{"a": 1, "a": 2}', "a key twice at byte 9"),
        ('{"a": 1, "\\u0061": 2}', "a key twice at byte 9"),
        ("{" + ",".join(f'"{n}": 0' for n in range(129)) + "}", "too many keys in one object"),
        ('{"a": NaN}', "no value where one was expected at byte 6"),
        ('{"a": 01}', "a number with leading 0"),
        ('{"a": -}', "a number without a digit at byte 7"),
        ('{"a": 1.}', "a number without a digit"),
        ('{"a" 1}', "a key without ':' at byte 5"),
        ("{1: 1}", "a key that is no string at byte 1"),
        ('{"a": 1', "no ',' or closing bracket at byte 7"),
        ('{"a": 1}}', "something behind the value at byte 8"),
        ('{"a": "\x01"}', "a control character in a string at byte 7"),
        ('{"a": "\\x"}', "an unknown escape at byte 8"),
        ('{"a": "\\u12"}', "an escape without four hex digits"),
        ('{"a": "\\ud800"}', "half a surrogate pair"),
        ('{"a": "\\ud800\\u0041"}', "half a surrogate pair"),
        ('{"a": "\\u0000"}', "the character U+0000"),
        ('{"a": "b', "a string without end at byte 8"),
    ],
)
def test_what_is_not_strict_json_is_refused(read_in_c, everything, text, defect):
    (everything / "manifest.json").write_text(text)
    status, message = read_in_c(everything)
    assert status == FORMAT
    assert f"{everything}/manifest.json: expected JSON, found a defect: {defect}" in message


@pytest.mark.parametrize(
    "data", [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\x80"]
)
def test_strings_that_are_not_utf8_are_refused(read_in_c, everything, data):
    (everything / "manifest.json").write_bytes(b'{"a": "' + data + b'"}')
    status, message = read_in_c(everything)
    assert status == FORMAT and "found a defect: bytes that are not UTF-8 at byte 7." in message


def test_escapes_and_any_script_are_read_as_python_reads_them(read_in_c, everything):
    text = (everything / "manifest.json").read_text()
    text = text.replace('"pooling"', '"po\\u006fling"').replace('"max"', '"\\u006D\\u0061x"')
    (everything / "manifest.json").write_bytes(reseal(f"\n\t {text} \r\n".encode()))
    assert read_in_c(everything) == (OK, "ok")


def test_a_newer_version_is_told_before_its_unknown_keys(read_in_c, everything):
    edit_manifest(everything, lambda m: m.update(format_version=4, news={"a": [1, None]}))
    assert read_in_c(everything) == (
        VERSION,
        f"{everything}/manifest.json: expected format_version 1 to 3, found 4. Build a "
        "gatetable.c as new as the one that wrote the folder.",
    )


@pytest.mark.parametrize("version", [0, -1, True, 1.0, "2", None, 10**30, [2]])
def test_other_versions_are_refused(read_in_c, everything, version):
    edit_manifest(everything, lambda m: m.update(format_version=version))
    status, message = read_in_c(everything)
    assert status == VERSION and f"found {json.dumps(version)}. Build a" in message


def _set(*path, value):
    def change(manifest):
        for key in path[:-1]:
            manifest = manifest[key]
        manifest[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            _set("format", value="x"),
            "expected the manifest of a lookup folder, with format gatetab",
        ),
        (lambda m: m.pop("relu"), "the manifest: expected the key relu, found none such."),
        (
            _set("x\n", value=1),
            "the manifest: expected only keys that the format has for these options, found x?.",
        ),
        (_set("axes", value=[]), "axes: expected an object, found []."),
        (lambda m: m["axes"].pop("E"), "axes: expected the key E, found none such."),
        (_set("axes", "V", value=1), "axes.V: expected an integer from 2 to 1000000, found 1."),
        (_set("axes", "V", value=10**9), "axes.V: expected an integer from 2 to 1000000, found 1"),
        (_set("axes", "E", value=0), "axes.E: expected an integer from 1 to 4096, found 0."),
        (_set("axes", "H", value=4097), "axes.H: expected an integer from 1 to 4096, found 4097."),
        (_set("axes", "C", value=True), "axes.C: expected an integer from 2 to 100000, found true"),
        (_set("axes", "C", value=4.0), "axes.C: expected an integer from 2 to 100000, found 4.0."),
        (_set("axes", "C", value="4"), 'axes.C: expected an integer from 2 to 100000, found "4".'),
        (_set("layers", value=9), "layers: expected an integer from 1 to 8, found 9."),
        (_set("bidirectional", value=1), "bidirectional: expected true or false, found 1."),
        (_set("relu", value=None), "relu: expected true or false, found null."),
        (_set("pooling", value="sum"), 'pooling: expected one of last, max, mean, found "sum".'),
        (_set("max_tokens", value=0), "max_tokens: expected an integer from 1 to 65536, found 0."),
        (
            _set("table_dtype", value="float64"),
            'table_dtype: expected one of float32, float16, int16, int8, found "float64".',
        ),
        (
            _set("recurrent_dtype", value="float16"),
            'recurrent_dtype: expected one of float32, int16, int8, found "float16".',
        ),
        (_set("tolerance", value=2), "tolerance: expected a number from 1e-05 to 1, found 2."),
        (
            _set("tolerance", value=1e-6),
            "tolerance: expected a number from 1e-05 to 1, found 1e-06",
        ),
        (_set("tolerance", value="1"), 'tolerance: expected a number from 1e-05 to 1, found "1".'),
        (_set("word_table", value=3), "word_table: expected an object, found 3."),
        (
            _set("word_table", "words", value=0),
            "word_table.words: expected an integer from 1 to 2000000, found 0.",
        ),
        (
            _set("word_table", value=None),
            "files: expected only keys that the format has for these options, found word_",
        ),
        (
            _set("files", "../x", value={}),
            "files: expected only keys that the format has for these options, found ../x.",
        ),
        (
            lambda m: m["files"].pop("head_bias.npy"),
            "files: expected the key head_bias.npy, found none such.",
        ),
        (
            _set("files", "labels.json", "bytes", value=2**26 + 1),
            "files.labels.json.bytes: expected an integer from 0 to 67108864, found 67108865.",
        ),
        (
            _set("files", "head_bias.npy", "sha256", value="A" * 64),
            'files.head_bias.npy.sha256: expected 64 lower-case hex digits, found "AAAA',
        ),
        (
            _set("files", "head_bias.npy", "dtype", value="<f8"),
            "files.head_bias.npy: expected dtype <f4, shape [4], found ",
        ),
        (
            _set("files", "head_kernel.npy", "shape", value=[4, 12]),
            "files.head_kernel.npy: expected dtype <f4, shape [12, 4], found ",
        ),
        (
            _set("files", "head_bias.npy", "shape", value=[4, 1]),
            "files.head_bias.npy: expected dtype <f4, shape [4], found ",
        ),
        (_set("axes", "H", value=7), "files.gate_table.npy: expected dtype <i2, shape [30, 21], f"),
    ],
)
def test_wrong_values_in_the_manifest_are_refused(read_in_c, everything, change, message):
    edit_manifest(everything, change)
    status, found = read_in_c(everything)
    assert (status, found[: len(str(everything)) + 16]) == (FORMAT, f"{everything}/manifest.json: ")
    assert message in found


@pytest.mark.parametrize("version", [1, 2])
def test_older_versions_are_read_without_a_checksum(read_in_c, folder, version):
    path = folder / "manifest.json"
    older = make_older(json.loads(path.read_text()), version)
    path.write_text(json.dumps(older))
    assert read_in_c(folder) == (OK, "ok")
    path.write_text(json.dumps(older | {"manifest_sha256": "0" * 64}))
    message = "expected only keys that the format has for these options, found manifest_sha256."
    assert message in read_in_c(folder)[1]


@pytest.mark.parametrize(
    ("old", "new"), [('"max_tokens": 16', '"max_tokens": 17'), ('"E": 5', '"E": 4'), ("\n", " ")]
)
def test_a_manifest_holds_its_own_checksum(read_in_c, everything, old, new):
    text = (everything / "manifest.json").read_text()
    changed = text.replace(old, new, 1)
    assert changed != text
    (everything / "manifest.json").write_text(changed)
    digest = json.loads(text)["manifest_sha256"]
    found = json.loads(reseal(changed.encode()))["manifest_sha256"]
    assert read_in_c(everything) == (
        FORMAT,
        f"{everything}/manifest.json: expected manifest_sha256 {digest}, found {found}.{REMEDY}",
    )


@pytest.mark.parametrize("digest", ["0" * 63, "A" * 64, None])
def test_a_checksum_that_is_none_is_refused(read_in_c, everything, digest):
    edit_manifest(everything, lambda m: m.update(manifest_sha256=digest))
    message = f"manifest_sha256: expected 64 lower-case hex digits, found {json.dumps(digest)}."
    assert message in read_in_c(everything)[1]


def test_a_checksum_must_stand_there_digit_by_digit(read_in_c, everything):
    path = everything / "manifest.json"
    text = path.read_text()
    digest = json.loads(text)["manifest_sha256"]
    path.write_text(text.replace(digest, f"\\u{ord(digest[0]):04x}{digest[1:]}"))
    assert json.loads(path.read_text()) == json.loads(text)
    assert f"manifest.json: expected manifest_sha256 {digest}, found " in read_in_c(everything)[1]


def test_every_flipped_bit_and_every_cut_of_a_manifest_is_refused(sealed_manifest, tmp_path):
    program = tmp_path / "manifest_bits"
    compile_c(program, DRIVER.with_name("manifest_bits.c"), options=("-O1",))
    path = tmp_path / "manifest.json"
    path.write_bytes(sealed_manifest)
    done = run_c(program, path)
    size = len(sealed_manifest)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", f"{8 * size} {size} 0\n")
    # Of version 2 some pass: the program can tell.
    path.write_text(json.dumps(make_older(json.loads(sealed_manifest), 2)))
    assert int(run_c(program, path).stdout.split()[2]) > 0


def test_exact_arrays_have_one_tolerance(read_in_c, folder):
    edit_manifest(folder, lambda m: m.update(tolerance=0.5))
    assert "tolerance: expected 1e-05 for exact arrays, found 0.5." in read_in_c(folder)[1]
