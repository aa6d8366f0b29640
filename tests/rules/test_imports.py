"""Imports point left: pipeline <- export <- serving_compare, through named doors only."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STAGES = ("pipeline", "export", "serving_compare")

ALLOWED = {
    "pipeline": {"pipeline"},
    "export": {"export", "pipeline.run_folder"},
    "serving_compare": {"serving_compare", "export.bundle", "export.lookup"},
}
CONFINED = {
    "keras_tuner": {
        *("pipeline/search_space.py", "pipeline/oracles.py", "pipeline/trial_runner.py"),
        *("pipeline/search.py", "pipeline/tune_workers.py", "pipeline/hparams_log.py"),
    },
    "boto3": {"export/store/client.py"},
    "botocore": {"export/store/client.py"},
    "cryptography": {"export/store/signing.py"},
    "tf2onnx": {
        *("export/tf2onnx_graph.py", "export/rewrite/conversion.py", "export/rewrite/bench.py"),
    },
    "pyarrow": {
        *("pipeline/tables/csv_rows.py", "pipeline/tables/parquet_rows.py"),
        *("export/text_table.py", "export/scored_table.py"),
    },
    "ray": {"export/score_ray.py"},
    "matplotlib": {"pipeline/plots.py", "serving_compare/plots.py"},
    "gensim": {"pipeline/embedding_init.py"},
    "psutil": {"pipeline/ablation/worker.py"},
    "fasttext": {"pipeline/baselines/fasttext_grid.py"},
    "sklearn": {"pipeline/baselines/linear_svm.py", "pipeline/data_card/label_noise.py"},
}
"""Third parties that one module each may import."""
NEVER = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal"}


def list_imports(path: Path) -> list[str]:
    """Absolute module names that a file imports anywhere, `from a import b` as `a` and `a.b`."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.append(node.module)
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def source_files() -> list[Path]:
    return sorted(path for stage in STAGES for path in (ROOT / stage).rglob("*.py"))


def is_allowed(name: str, doors: set[str]) -> bool:
    """Whether `name` is a door, lies behind one, or is a package on the way to one."""
    return any(
        name == door or name.startswith(f"{door}.") or door.startswith(f"{name}.") for door in doors
    )


@pytest.mark.parametrize("path", source_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_through_the_named_doors(path: Path) -> None:
    stage = path.relative_to(ROOT).parts[0]
    ours = [name for name in list_imports(path) if name.split(".")[0] in STAGES]
    assert [name for name in ours if not is_allowed(name, ALLOWED[stage])] == []


def test_export_opens_no_other_pipeline_module_by_importing_the_package() -> None:
    for path in (ROOT / "export").rglob("*.py"):
        assert "pipeline" not in [name for name in list_imports(path) if name == "pipeline"], (
            f"{path}: import pipeline.run_folder, not the package"
        )


@pytest.mark.parametrize("path", source_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_confined_libraries_and_pickle_stay_out(path: Path) -> None:
    relative = str(path.relative_to(ROOT))
    roots = {name.split(".")[0] for name in list_imports(path)}
    assert roots & NEVER == set()
    assert [lib for lib, homes in CONFINED.items() if lib in roots and relative not in homes] == []


def test_the_lookup_runtime_imports_numpy_and_itself_only() -> None:
    optional = {"sentencepiece"}
    for path in (ROOT / "export" / "lookup").rglob("*.py"):
        roots = {name.split(".")[0] for name in list_imports(path)}
        foreign = roots - set(sys.stdlib_module_names) - {"numpy"} - optional
        assert foreign == set(), path


@pytest.mark.parametrize(
    "module",
    ["pipeline.run_folder", "pipeline.config", "export.bundle", "export.lookup", "export"],
)
def test_contracts_import_without_tensorflow(module: str) -> None:
    code = (
        f"import sys, {module}; "
        "sys.exit(','.join({'tensorflow', 'keras', 'onnxruntime'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_packages_import_nothing_on_their_own() -> None:
    for stage in STAGES:
        assert list_imports(ROOT / stage / "__init__.py") == [], stage
