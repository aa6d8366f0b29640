from __future__ import annotations

from pathlib import Path

import pytest

from export.bundle import ORACLE_FILE
from export.tf2onnx_graph import OracleError, convert_in_background


def test_a_failed_conversion_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with (
        pytest.raises(
            OracleError, match=r"out.onnx: expected tf2onnx to write it, found exit code 1"
        ),
        convert_in_background(tmp_path, "saved_model", "out.onnx") as wait,
    ):
        wait()


def test_the_child_ends_when_the_caller_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "sleep"
    script.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 60\n")
    script.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(script))
    with (
        pytest.raises(RuntimeError, match="interrupted"),
        convert_in_background(tmp_path, "saved_model", "out.onnx"),
    ):
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            pass
        raise RuntimeError("interrupted")
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()


@pytest.mark.slow
def test_the_oracle_is_a_graph_of_loops(published: Path) -> None:
    import onnx

    operators = [node.op_type for node in onnx.load(published / ORACLE_FILE).graph.node]
    assert operators.count("Loop") == 2
    assert "GRU" not in operators
