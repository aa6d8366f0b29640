"""A flipped bit or a cut anywhere in an artifact is found before anything of it is used."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from export.artifact_diff import compare_artifacts
from export.bundle import MANIFEST_FILE, BundleError, list_files, read_artifact
from export.inspection import inspect_folder
from export.layout import write_layout
from export.lookup import ArtifactError, load_lookup
from export.verify import verify_artifact
from tests.export.artifact_damages import GOLDEN, Damage, copy_golden, make_damages

IS_THOROUGH = bool(os.environ.get("GATETABLE_THOROUGH"))
COUNT = 1000 if IS_THOROUGH else 210
FEW = 1000 if IS_THOROUGH else 73
"""For what begins with `read_artifact`: each file once."""
RUNTIME = "lookup/runtime/"
V2 = GOLDEN.parent / "v2"
"""Of before either manifest held its own checksum."""


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_golden(tmp_path_factory.mktemp("damage") / "tiny" / "1")


@contextmanager
def applied(folder: Path, damage: Damage) -> Iterator[None]:
    """Have `damage` in `folder` meanwhile."""
    path = folder / damage.name
    sound = path.read_bytes()
    assert damage.data != sound
    path.write_bytes(damage.data)
    try:
        yield
    finally:
        path.write_bytes(sound)


def list_passed(
    folder: Path, damages: list[Damage], load: Callable[[], Any], *errors: type[Exception]
) -> list[str]:
    """Return what a loader let pass; any other error than these fails the test."""
    passed = []
    for damage in damages:
        with applied(folder, damage):
            try:
                load()
            except errors:
                continue
            passed.append(damage.what)
    return passed


def test_the_sound_artifact_passes(artifact: Path) -> None:
    read_artifact(artifact)
    load_lookup(artifact / "lookup")
    assert inspect_folder(artifact).damaged == ()


def test_damage_reaches_every_file(artifact: Path) -> None:
    names = set(list_files(artifact))
    assert {damage.name for damage in make_damages(artifact, 210, 0)} == names
    assert len(names) == 73


@pytest.mark.parametrize("loader", ["read_artifact", "verify", "layout", "diff"])
def test_every_damage_is_refused_by_readers_of_artifacts(
    artifact: Path, loader: str, tmp_path: Path
) -> None:
    """None of these gets as far as a runtime: TensorFlow would take a minute a hundred."""
    loaders: dict[str, Callable[[], object]] = {
        "read_artifact": lambda: read_artifact(artifact),
        "verify": lambda: verify_artifact(artifact),
        "layout": lambda: write_layout(artifact, "tfserving", tmp_path / "models"),
        "diff": lambda: compare_artifacts(GOLDEN, artifact),
    }
    damages = make_damages(artifact, COUNT if loader == "read_artifact" else FEW, 0)
    assert list_passed(artifact, damages, loaders[loader], BundleError) == []


def test_every_damage_is_told_by_inspect(artifact: Path) -> None:
    """A file with another checksum is told, what makes the folder unreadable refused."""
    for damage in make_damages(artifact, FEW, 0):
        with applied(artifact, damage):
            try:
                found = inspect_folder(artifact).damaged
            except (BundleError, ArtifactError):
                continue
            assert found == (damage.name,), damage.what


def test_every_damage_in_its_reach_is_refused_by_the_lookup_runtime(artifact: Path) -> None:
    """Its own are the files of `lookup/` but `runtime/`, which is code that it does not read."""
    own = {
        name
        for name in list_files(artifact)
        if name.startswith("lookup/") and not name.startswith(RUNTIME)
    }
    damages = [d for d in make_damages(artifact, 4 * COUNT, 1) if d.name in own]
    assert {damage.name for damage in damages} == own
    folder = artifact / "lookup"
    assert list_passed(artifact, damages, lambda: load_lookup(folder), ArtifactError) == []


def test_of_version_2_a_text_cut_elsewhere_is_found_when_the_tokenizer_loads(
    tmp_path: Path,
) -> None:
    folder = shutil.copytree(V2 / "lookup", tmp_path / "lookup")
    path = folder / MANIFEST_FILE
    sound = path.read_text()
    for length in (2, 4, 7):  # a flipped bit of 6
        path.write_text(sound.replace('"max_tokens": 6', f'"max_tokens": {length}'))
        with pytest.raises(ArtifactError, match="expected ids"):
            load_lookup(folder).predict(["unseen"])


def test_a_manifest_without_a_checksum_may_tell_something_else(tmp_path: Path) -> None:
    """Schema versions 1 and 2: what is told passes, what files are made of does not."""
    artifact = shutil.copytree(V2, tmp_path / "tiny")
    manifest = (artifact / MANIFEST_FILE).read_bytes()
    damaged = manifest.replace(b'"top_1": 0.475', b'"top_1": 0.474', 1)
    with applied(artifact, Damage(MANIFEST_FILE, damaged, "a figure")):
        read_artifact(artifact)
