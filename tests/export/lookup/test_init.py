"""The package alone: copied away, under other names, in an interpreter that has NumPy only."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sentencepiece

import export.lookup
from export.lookup import Probe, load_lookup, write_lookup

PACKAGE = Path(export.lookup.__file__).parent

SCRIPT = """
import importlib, json, sys

parent, name, folder, site, also, text = sys.argv[1:]
sys.path[:0] = [parent, site]
allowed = {"numpy", name} | set(filter(None, also.split(","))) | sys.stdlib_module_names

class OnlyThese:
    def find_spec(self, module, path=None, target=None):
        if module.partition(".")[0] not in allowed:
            raise ModuleNotFoundError(f"{module} is not for this interpreter", name=module)

sys.meta_path.insert(0, OnlyThese())
runtime = importlib.import_module(name)
model = runtime.load_lookup(folder)
stream = model.stream()
stream.push(3)
answer = {
    "probabilities": model.probabilities([[3, 4, 0], [5, 0, 0]], [2, 0]).tolist(),
    "stream": stream.probabilities().tolist(),
    "foreign": sorted(
        {module.partition(".")[0] for module in sys.modules}
        - {"numpy", "_gatetable", "__main__", name} - sys.stdlib_module_names
    ),
}
if text:
    try:
        answer["predictions"] = model.predict([text], k=2)
    except ImportError as err:
        answer["error"] = str(err)
print(json.dumps(answer))
"""


@pytest.fixture
def text_folder(tmp_path, raw_model, content, tokenizer):
    raw = raw_model(vocab_size=48)
    golden = [Probe("", (1,), tuple(raw.probabilities([1]).tolist()))]
    write_lookup(tmp_path / "lookup", **(content(raw, tokenizer) | {"golden": golden}))
    return tmp_path / "lookup"


def run_isolated(parent, name, folder, also="", text=""):
    # -I -S: no environment variables, no working directory and no installed package on the
    # path. Then NumPy's folder is added, and the script itself lets nothing else in.
    site = str(Path(np.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", SCRIPT, parent, name, folder, site, also, text],
        capture_output=True,
        text=True,
        check=False,
        cwd=parent,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", ["runtime", "some_other_name"])
def test_a_copy_serves_ids_with_numpy_alone(tmp_path, text_folder, name):
    away = tmp_path / "elsewhere"
    away.mkdir()
    shutil.copytree(text_folder / "runtime", away / name)
    shutil.copytree(text_folder, away / "lookup")
    answer = run_isolated(away, name, "lookup")
    model = load_lookup(text_folder)
    expected = model.probabilities([[3, 4, 0], [5, 0, 0]], [2, 0])
    np.testing.assert_array_equal(np.float32(answer["probabilities"]), expected)
    np.testing.assert_allclose(
        np.float32(answer["stream"]), model.probabilities([[3]], [1])[0], rtol=0, atol=2e-6
    )
    assert answer["foreign"] == []


def test_the_folder_serves_with_the_runtime_inside_it(text_folder):
    run_isolated(text_folder, "runtime", ".")
    load_lookup(text_folder)  # and the import left nothing behind that spoils it


def test_a_copy_serves_text_with_sentencepiece_added(text_folder):
    answer = run_isolated(text_folder, "runtime", ".", "sentencepiece,_sentencepiece", "the cat")
    expected = load_lookup(text_folder).predict(["the cat"], k=2)
    assert [tuple(best) for best in answer["predictions"][0]] == expected[0]
    assert sentencepiece.__name__ not in answer["foreign"]


def test_a_copy_without_sentencepiece_says_what_text_needs(text_folder):
    answer = run_isolated(text_folder, "runtime", ".", "", "the cat")
    assert "pip install sentencepiece" in answer["error"]


def test_a_copy_serves_without_the_compiled_kernel(text_folder, monkeypatch, tmp_path):
    monkeypatch.setenv("GATETABLE_CACHE", str(tmp_path / "empty"))
    done = subprocess.run(
        [sys.executable, "-m", "runtime", ".", "the cat", "--k", "1"],
        capture_output=True,
        text=True,
        check=True,
        cwd=text_folder,
    )
    assert re.fullmatch(r"the cat\n +\d+\.\d\d%  label \d\n", done.stdout)


def test_public_names_exist_and_are_sorted():
    assert sorted(export.lookup.__all__) == export.lookup.__all__
    assert all(hasattr(export.lookup, name) for name in export.lookup.__all__)
