"""The state of a search: whatever is killed or torn, the newest whole one is found."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.oracle_store import (
    OUTCOME_FILE,
    PREVIOUS_FILE,
    STATE_FILE,
    Outcome,
    read_outcome,
    read_state,
    write_outcome,
    write_state,
)
from pipeline.run_folder import RunError

OLD, NEW = {"trials": {"0": 1}}, {"trials": {"0": 1, "1": 2}}
VALUES = {"units": 16, "learning_rate": 0.003}
DONE = Outcome(values=VALUES, metrics={"val_top_1": 0.5}, failure=None, seconds=1.5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A search's folder with a state and the one before it."""
    folder = tmp_path / "search" / "keras_tuner"
    folder.mkdir(parents=True)
    write_state(folder, OLD)
    write_state(folder, NEW)
    return folder


TEARS = {
    "nothing of it": lambda whole: b"",
    "its first byte": lambda whole: whole[:1],
    "half of it": lambda whole: whole[: len(whole) // 2],
    "all but its last brace": lambda whole: whole.rstrip()[:-1],
    "a whole object of the half": lambda whole: b'{"schema_version": 1}',
    "zeros after a power cut": lambda whole: whole[:40] + bytes(len(whole) - 40),
    "another digit": lambda whole: whole.replace(b'"1": 2', b'"1": 3'),
    "no UTF-8": lambda whole: b"\xff\xfe" + whole,
    "a list": lambda whole: b"[]",
    "brackets without end": lambda whole: b"[" * 100_000,
}


def test_a_state_is_read_as_it_was_written_and_in_its_order(folder: Path) -> None:
    state = {"trials": {"10": 1, "9": 2}}
    write_state(folder, state)
    found, note = read_state(folder)
    assert (found, note) == (state, None)
    assert found is not None
    assert list(found["trials"]) == ["10", "9"]


def test_a_search_that_never_began_has_no_state(tmp_path: Path) -> None:
    assert read_state(tmp_path) == (None, None)


@pytest.mark.parametrize("tear", TEARS.values(), ids=TEARS)
def test_a_torn_state_leaves_the_one_before_it(folder: Path, tear: Any) -> None:
    path = folder / STATE_FILE
    path.write_bytes(tear(path.read_bytes()))
    state, note = read_state(folder)
    assert state == OLD
    assert note is not None
    assert "oracle.json is torn (" in note
    assert note.endswith("; going on from oracle.previous.json, one change older.")
    assert "\n" not in note
    # The next write must not put the torn one in the place of the only whole one.
    write_state(folder, {"trials": {}})
    assert read_state(folder) == ({"trials": {}}, None)
    path.write_bytes(b"")
    assert read_state(folder)[0] == OLD


@pytest.mark.parametrize("tear", TEARS.values(), ids=TEARS)
def test_a_torn_older_state_is_of_no_account(folder: Path, tear: Any) -> None:
    path = folder / PREVIOUS_FILE
    path.write_bytes(tear(path.read_bytes()))
    assert read_state(folder) == (NEW, None)


def test_a_state_that_is_missing_leaves_the_one_before_it(folder: Path) -> None:
    (folder / STATE_FILE).unlink()
    assert read_state(folder) == (OLD, None)


def test_two_torn_states_are_moved_aside_and_said_so(folder: Path) -> None:
    for name in (STATE_FILE, PREVIOUS_FILE):
        (folder / name).write_bytes(b"{")
    state, note = read_state(folder)
    assert state is None
    assert note is not None
    assert re.search(
        r"oracle.json is torn \(.*\) and oracle.previous.json is torn \(.*\); drawing anew, "
        r"finished trials are not run again\.$",
        note,
    )
    assert read_state(folder) == (None, None)
    assert {path.name for path in folder.glob("*.torn")} == {
        "oracle.json.torn",
        "oracle.previous.json.torn",
    }


def test_a_state_of_a_newer_program_is_refused(folder: Path) -> None:
    (folder / STATE_FILE).write_text(json.dumps({"schema_version": 2, "state": {}}))
    with pytest.raises(RunError, match="expected schema_version 1, found 2. Upgrade gatetable"):
        read_state(folder)


@pytest.mark.parametrize("step", range(4))
def test_a_kill_between_two_steps_of_a_write_leaves_the_old_state_or_the_new(
    folder: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    newer = {"trials": {"2": 3}}
    steps = 0

    def count(real: Any) -> Any:
        def stop(*arguments: Any) -> Any:
            nonlocal steps
            if steps == step:
                raise KeyboardInterrupt
            steps += 1
            return real(*arguments)

        return stop

    monkeypatch.setattr("pipeline.oracle_store.os.link", count(__import__("os").link))
    monkeypatch.setattr(Path, "replace", count(Path.replace))
    monkeypatch.setattr("pipeline.oracle_store.sync", count(lambda path: None))
    with pytest.raises(KeyboardInterrupt):
        write_state(folder, newer)
    monkeypatch.undo()
    assert read_state(folder) == (newer if step == 3 else NEW, None)
    write_state(folder, OLD)
    assert read_state(folder) == (OLD, None)


def test_an_outcome_belongs_to_its_values(tmp_path: Path) -> None:
    write_outcome(tmp_path / "trial_0", DONE)
    assert read_outcome(tmp_path / "trial_0") == DONE
    assert read_outcome(tmp_path / "trial_0", VALUES) == DONE
    assert read_outcome(tmp_path / "trial_0", {**VALUES, "units": 32}) is None
    assert read_outcome(tmp_path / "trial_1", VALUES) is None


@pytest.mark.parametrize("size", [0, 1, 40, -2])
def test_a_torn_outcome_is_none_so_the_trial_is_run_again(tmp_path: Path, size: int) -> None:
    write_outcome(tmp_path, DONE)
    path = tmp_path / OUTCOME_FILE
    path.write_bytes(path.read_bytes().rstrip()[:size])
    assert read_outcome(tmp_path, VALUES) is None
