"""JSON files of bounded size: round trip, and every refusal in full."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.json_file import read_bounded_json, write_json


class StageError(Exception):
    """Stands for the error of a stage."""


def read(path: Path) -> Any:
    return read_bounded_json(
        path, error=StageError, finished="a finished one. Make it.", again="Make it again."
    )


def test_a_value_is_read_back_and_written_alike(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    write_json(path, {"b": [1.5, None], "a": "é"})
    assert path.read_bytes() == '{\n  "a": "é",\n  "b": [\n    1.5,\n    null\n  ]\n}\n'.encode()
    assert read(path) == {"a": "é", "b": [1.5, None]}


def test_a_number_that_is_not_finite_is_refused_and_the_older_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    write_json(path, 1)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"loss": float("nan")})
    assert read(path) == 1


def test_a_missing_file_says_what_its_folder_is_not(tmp_path: Path) -> None:
    expected = f"{tmp_path}/x.json: no such file, so {tmp_path} is not a finished one. Make it."
    with pytest.raises(StageError, match=f"^{re.escape(expected)}$"):
        read(tmp_path / "x.json")


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    expected = f"{tmp_path}: expected a readable file, found Is a directory."
    with pytest.raises(StageError, match=f"^{re.escape(expected)}$"):
        read(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[1,]"])
def test_a_damaged_file_says_what_to_do(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(StageError, match=rf"^{path}: expected JSON, found .+\. Make it again\.$"):
        read(path)


def test_a_huge_file_is_not_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.json"
    write_json(path, [1, 2, 3])
    monkeypatch.setattr("pipeline.json_file.MAX_JSON_BYTES", 10)
    with pytest.raises(StageError, match=rf"^{path}: expected at most 10 bytes, found \d+\.$"):
        read(path)
