"""A flipped bit or a cut anywhere in an artifact is found before a server or harness uses it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from export.bundle import BundleError
from serving_compare.__main__ import main
from serving_compare.server.command import find_served
from serving_compare.server.model_slot import load_model
from tests.export.artifact_damages import copy_golden, make_damages
from tests.export.test_damage import FEW, applied, list_passed


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy_golden(tmp_path_factory.mktemp("damage") / "tiny" / "1")
    (folder.parent / "latest").write_text("1\n")
    return folder


@pytest.mark.parametrize("loader", ["version", "latest", "lookup", "onnx", "saved_model"])
def test_every_damage_is_refused_before_a_model_is_loaded(artifact: Path, loader: str) -> None:
    loaders: dict[str, Callable[[], object]] = {
        "version": lambda: find_served(artifact, artifact),
        "latest": lambda: find_served(artifact.parent, artifact),
        **{
            name: lambda name=name: load_model(name, artifact)  # type: ignore[misc]
            for name in ("lookup", "onnx", "saved_model")
        },
    }
    damages = make_damages(artifact, FEW, 2)
    assert list_passed(artifact, damages, loaders[loader], BundleError) == []


def test_the_harness_refuses_a_damaged_artifact(artifact: Path, tmp_path: Path) -> None:
    """The backends themselves compare no checksum: the command does, before it starts one."""
    for damage in make_damages(artifact, 15, 3):
        with applied(artifact, damage):
            result = CliRunner().invoke(
                main,
                ["compare", "--artifact", str(artifact)],
                env={"GATETABLE_BUILD": str(tmp_path)},
            )
            assert (result.exit_code, result.stdout) == (2, ""), damage.what
            assert result.stderr.startswith("error: "), damage.what
