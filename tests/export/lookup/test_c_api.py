"""The C interface through its examples: what they print is what Python and Keras give."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from export.lookup import load_lookup, read_lookup, write_lookup
from tests.export.lookup.c_programs import (
    COMPILER,
    CPP_COMPILER,
    EXAMPLES,
    ROOT,
    WARNINGS,
    compile_c,
    run_c,
)

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler here")

GOLDEN = sorted((ROOT / "tests" / "golden").glob("v*/lookup"))
WORDS = {b"cat": [2, 5], b"a": [3], b"dog": [], "고양이".encode(): [7, 29, 1]}
INTEGER_TOLERANCE = 2e-3
"""Integer kernels multiply with states rounded to 14 fractional bits."""


@pytest.fixture(scope="module")
def predict(tmp_path_factory, gatetable_object) -> Path:
    target = tmp_path_factory.mktemp("c") / "predict"
    return compile_c(target, EXAMPLES / "predict.c", gatetable_object, options=WARNINGS)


@pytest.fixture(scope="module")
def typeahead(tmp_path_factory, gatetable_object) -> Path:
    target = tmp_path_factory.mktemp("c") / "typeahead"
    return compile_c(target, EXAMPLES / "typeahead.c", gatetable_object, options=WARNINGS)


@pytest.fixture
def words_folder(tmp_path, raw_model, content, words) -> Path:
    """A sound folder with a word table."""
    write_lookup(tmp_path / "words", **content(raw_model()), words=words(WORDS))
    return tmp_path / "words"


def format_ids(rows) -> str:
    return "".join(" ".join(map(str, row)) + "\n" for row in rows)


def parse_answers(printed: str, labels) -> np.ndarray:
    """Return (lines, C) float64 from lines that hold all C labels; best first is checked."""
    rows = []
    for line in printed.splitlines():
        fields = line.split("\t")
        values = np.array(fields[1::2], np.float64)
        assert (np.diff(values) <= 0).all()
        by_label = dict(zip(fields[::2], values, strict=True))
        assert len(by_label) == len(labels)
        rows.append([by_label[label] for label in labels])
    return np.array(rows)


def ask(predict: Path, folder: Path, rows) -> np.ndarray:
    """Return the probabilities (rows, C) that the C program gives rows of ids."""
    labels = read_lookup(folder).labels
    done = run_c(predict, folder, len(labels), text=format_ids(rows))
    assert (done.returncode, done.stderr) == (0, "")
    return parse_answers(done.stdout, labels)


def check_agreement(found: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
    best, ours = expected.argmax(axis=1), found.argmax(axis=1)
    rows = np.arange(len(expected))
    # Another first class is right only where the two are as good as equal.
    assert (expected[rows, best] - expected[rows, ours] <= tolerance).all()


@pytest.mark.parametrize("folder", GOLDEN, ids=lambda folder: folder.parent.name)
def test_the_program_gives_the_golden_probes_of_every_frozen_artifact(predict, folder):
    files = read_lookup(folder)
    found = ask(predict, folder, [probe.ids for probe in files.golden])
    check_agreement(
        found, np.array([probe.probabilities for probe in files.golden]), files.tolerance
    )


ROWS = [[1], [0], [29], [2, 5, 1, 7], [], [3] * 40, list(range(30))]


@pytest.mark.parametrize(
    ("bidirectional", "layers", "pooling", "relu"),
    [
        (True, 1, "max", True),
        (False, 1, "last", False),
        (False, 3, "mean", True),
        (True, 2, "last", True),
        (True, 2, "mean", False),
        (False, 2, "max", False),
    ],
)
@pytest.mark.parametrize("units", [1, 6, 16])
def test_the_program_equals_the_equations(
    predict, tmp_path, raw_model, content, bidirectional, layers, pooling, relu, units
):
    model = raw_model(
        bidirectional=bidirectional, layers=layers, pooling=pooling, relu=relu, units=units
    )
    write_lookup(tmp_path / "lookup", **content(model))
    found = ask(predict, tmp_path / "lookup", ROWS)
    check_agreement(found, np.array([model.probabilities(row) for row in ROWS]), 1e-5)


@pytest.mark.parametrize(
    ("table_dtype", "recurrent_dtype"),
    [*itertools.product(("float32", "float16", "int16", "int8"), ("float32", "int8")),
     ("int16", "int16")],
)  # fmt: skip
def test_the_program_reads_every_stored_type(
    predict, tmp_path, raw_model, content, compressed, table_dtype, recurrent_dtype
):
    model = raw_model(layers=2)
    stored = compressed(model, table_dtype, recurrent_dtype)
    if not stored["config"].is_exact:
        stored["tolerance"] = 0.5
    write_lookup(tmp_path / "lookup", **(content(model) | stored))
    numpy_model = load_lookup(tmp_path / "lookup", engine="numpy", replay_golden=False)
    expected = np.concatenate(
        [numpy_model.probabilities([row or [1]], [len(row) or 1]) for row in ROWS]
    )
    tolerance = 1e-5 if recurrent_dtype == "float32" else INTEGER_TOLERANCE
    check_agreement(ask(predict, tmp_path / "lookup", ROWS), expected, tolerance)


def test_text_goes_through_the_word_table(predict, words_folder):
    texts = ["", " ", "cat", "a  cat ", "고양이 dog a", "dog", "a" + " cat" * 40]
    model = load_lookup(words_folder, replay_golden=False)
    expected = model.probabilities(*model.encode(texts))
    done = run_c(predict, words_folder, 4, "--text", text="\n".join(texts) + "\n")
    assert (done.returncode, done.stderr) == (0, "")
    found = parse_answers(done.stdout, model.labels)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_words_that_are_not_in_the_table_reach_the_fallback(predict, words_folder):
    done = run_c(predict, words_folder, 4, "--text", text="a zebra cat\na\nzebra zebra\n")
    assert done.returncode == 0
    assert done.stderr == "3 words are not in the word table and counted as unknown\n"
    labels = read_lookup(words_folder).labels
    np.testing.assert_array_equal(
        parse_answers(done.stdout, labels), ask(predict, words_folder, [[3, 1, 2, 5], [3], [1, 1]])
    )


@pytest.mark.parametrize("changes", [{}, {"bidirectional": False, "layers": 2}, {"layers": 2}])
def test_typeahead_answers_every_prefix(predict, typeahead, tmp_path, raw_model, content, changes):
    folder = tmp_path / "lookup"
    write_lookup(folder, **content(raw_model(**changes)))
    texts = [[2, 5, 1, 7, 0, 29], [3], [11, 12]]
    done = run_c(typeahead, folder, text="\n".join(format_ids([[i] for i in t]) for t in texts))
    assert (done.returncode, done.stderr) == (0, "")
    prefixes = [text[:end] for text in texts for end in range(1, len(text) + 1)]
    expected = run_c(predict, folder, 1, text=format_ids(prefixes)).stdout
    for line, whole in zip(done.stdout.splitlines(), expected.splitlines(), strict=True):
        label, probability = line.split("\t")
        assert label == whole.split("\t")[0]
        assert float(probability) == pytest.approx(float(whole.split("\t")[1]), abs=1e-6)


@pytest.mark.skipif(CPP_COMPILER is None, reason="no C++ compiler here")
@pytest.mark.parametrize("standard", ["-std=c++11", "-std=c++20"])
def test_a_program_in_cpp_includes_the_header(
    predict, folder, tmp_path, gatetable_object, standard
):
    program = compile_c(
        tmp_path / "cpp_user",
        EXAMPLES / "cpp_user.cpp",
        gatetable_object,
        compiler=CPP_COMPILER,
        options=(*WARNINGS, standard),
    )
    done = run_c(program, folder, 2, 5, 1, 7)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == run_c(predict, folder, 1, text="2 5 1 7\n").stdout
    done = run_c(program, folder, "x")
    assert (done.returncode, done.stderr) == (2, "ID: expected a token id, found x\n")


def test_bad_arguments_end_with_a_message(predict, typeahead, folder, tmp_path):
    missing = (
        f"{tmp_path}/none: expected a lookup folder, found none. Give the path of an artifact's "
        "lookup/ folder.\n"
    )
    for program, arguments in (
        (predict, (tmp_path / "none", 1)),
        (typeahead, (tmp_path / "none",)),
    ):
        done = run_c(program, *arguments)
        assert (done.returncode, done.stdout, done.stderr) == (2, "", missing)
    assert run_c(predict, folder, 5).stderr == "K: expected 1 to 4, found 5.\n"
    for line in ("30", "-1", "1 x", "1.5", "99999999999999999999", "1 2 3 30"):
        done = run_c(predict, folder, 1, text=f"1\n{line}\n")
        assert (done.returncode, done.stderr) == (2, "line 2: bad argument\n"), line
        assert done.stdout.count("\n") == 1
    for line in ("30", "-1", "x"):
        done = run_c(typeahead, folder, text=f"{line}\n")
        assert (done.returncode, done.stdout, done.stderr) == (2, "", "bad argument\n")


def test_an_instruction_set_that_is_none_is_refused(predict, folder, monkeypatch):
    monkeypatch.setenv("GATETABLE_ISA", "mmx")
    done = run_c(predict, folder, 1)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(
        r"GATETABLE_ISA: expected an instruction set of this machine \(best: \w+\), found mmx\.\n",
        done.stderr,
    )


def test_the_headers_compile_without_a_warning(tmp_path):
    program = tmp_path / "reader.c"
    # What gatetable.c does, less its kernels: a reader on its own.
    program.write_text(
        "#define _GNU_SOURCE 1\n"
        '#include "reader.h"\n'
        "int main(int count, char **folders) {\n"
        "    gt_config config; gt_arrays arrays; gt_word_arrays words; gt_folder owner;\n"
        "    if (count != 2) return 2;\n"
        "    if (gt_read_folder(folders[1], &config, &arrays, &words, &owner, NULL)) return 1;\n"
        "    gt_folder_release(&owner);\n"
        "    return 0;\n"
        "}\n"
    )
    compile_c(tmp_path / "reader", program, options=(*WARNINGS, "-std=c11"))
    assert run_c(tmp_path / "reader", GOLDEN[0]).returncode == 0
    assert run_c(tmp_path / "reader", tmp_path).returncode == 1


def read_blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", document.read_text(encoding="utf-8"), re.S)


def test_the_documented_program_runs(folder, tmp_path, gatetable_object):
    (source,) = read_blocks(ROOT / "docs" / "c_api.md", "c")
    (tmp_path / "program.c").write_text(source)
    program = compile_c(tmp_path / "p", tmp_path / "program.c", gatetable_object, options=WARNINGS)
    done = run_c(program, folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"label \d 0\.\d+\n", done.stdout)
    done = run_c(program, tmp_path / "none")
    assert done.returncode == 1 and "expected a lookup folder, found none." in done.stderr


def read_build_line(document: Path) -> str:
    (line,) = [
        line
        for block in read_blocks(document, "sh")
        for line in block.splitlines()
        if line.startswith("cc ")
    ]
    return line


def test_both_documents_build_alike():
    line = read_build_line(ROOT / "docs" / "c_api.md")
    assert line == read_build_line(EXAMPLES / "README.md")


@pytest.mark.slow  # twenty seconds of optimising
def test_the_documented_build_line_works_beside_a_copied_folder(folder, tmp_path):
    shutil.copytree(EXAMPLES, tmp_path, dirs_exist_ok=True)
    line = read_build_line(ROOT / "docs" / "c_api.md")
    subprocess.run(line, shell=True, cwd=tmp_path, check=True)
    done = run_c(tmp_path / "predict", folder, 4, text="2 5 1 7\n")
    expected = json.loads((folder / "golden.jsonl").read_text().splitlines()[2])
    found = parse_answers(done.stdout, read_lookup(folder).labels)
    np.testing.assert_allclose(found[0], expected["probabilities"], rtol=0, atol=1e-5)
