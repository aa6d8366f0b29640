"""What a search must not lose, on disk: each file whole or not there, and the newest before it.

    oracle.json            state of the search: trials begun and ended, what is drawn next
    oracle.previous.json   the same, one change earlier
    trial_<id>/outcome.json    what a trial came to; where it stands, the trial is never run again

KerasTuner writes its own files in place, so a kill leaves half of one, and in two steps, so one
may know of a trial that the other does not. Here the state is one file with its own hash: written
beside, synced, renamed. Imports no KerasTuner and no TensorFlow.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.run_folder import RunError
from pipeline.whole_file import sync, write_whole

STATE_FILE = "oracle.json"
PREVIOUS_FILE = "oracle.previous.json"
OUTCOME_FILE = "outcome.json"
STATE_SCHEMA_VERSION = 1
MAX_STATE_BYTES = 256 * 2**20
"""Bound before a file is parsed. A trial takes 3 kB of it."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a trial came to.

    Attributes:
        values: Its hyperparameters: an outcome belongs to them, not to the folder it lies in.
        metrics: Keras's logs of the best epoch; empty for a failed trial.
        failure: Why there are none, one line; None for a trial that finished.
        seconds: What it took.
    """

    values: Mapping[str, Any]
    metrics: Mapping[str, float]
    failure: str | None
    seconds: float


def _hash_state(state: Any) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _format(value: object) -> str:
    return json.dumps(value, indent=1) + "\n"  # not sorted: trials stand in order of their start


def write_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Replace the state of the search in `folder`, and keep the one it replaces.

    Killed at any time, `read_state` finds the new one or the old one.
    """
    path, previous = folder / STATE_FILE, folder / PREVIOUS_FILE
    content = _format(
        {"schema_version": STATE_SCHEMA_VERSION, "sha256": _hash_state(state), "state": state}
    )
    if path.exists():
        # A second name for the old file first: at no moment is there none.
        link = path.with_name(f".{previous.name}.partial")
        link.unlink(missing_ok=True)
        os.link(path, link)
        link.replace(previous)
    write_whole(path, content)
    sync(folder)


def _parse_state(path: Path) -> Any:
    """Return the state that a file holds.

    Raises:
        ValueError: It is not whole; says how.
        RunError: A newer program wrote it.
    """
    size = path.stat().st_size
    if size > MAX_STATE_BYTES:
        raise ValueError(f"{size} bytes")
    content = json.loads(path.read_bytes())
    if not isinstance(content, dict):
        raise ValueError(f"JSON of another kind, {type(content).__name__}")
    version = content.get("schema_version")
    if isinstance(version, int) and version > STATE_SCHEMA_VERSION:
        raise RunError(
            f"{path}: expected schema_version {STATE_SCHEMA_VERSION}, found {version}. Upgrade "
            "gatetable, or choose another --name."
        )
    if content.get("sha256") != _hash_state(content.get("state")):
        raise ValueError("content of another hash")
    return content["state"]


def read_state(folder: Path) -> tuple[dict[str, Any] | None, str | None]:
    """Return the newest whole state of the search in `folder`.

    Torn files are moved aside, so that nothing whole is ever replaced by one.

    Returns:
        The state; None where none was ever written or none is whole: a search that begins anew
        draws the same values, and trials whose outcome stands are not run again. And one line to
        tell a person when the newest was not whole.

    Raises:
        RunError: A newer program wrote it.
    """
    torn = []
    for path in (folder / STATE_FILE, folder / PREVIOUS_FILE):
        if not path.is_file():
            continue
        try:
            state = _parse_state(path)
        except (ValueError, RecursionError) as err:  # UnicodeDecodeError and JSON's are ValueErrors
            torn.append(f"{path.name} is torn ({str(err)[:80]})")
            path.replace(path.with_name(f"{path.name}.torn"))
            continue
        if not torn:
            return state, None
        return state, f"{folder}: {torn[0]}; going on from {path.name}, one change older."
    if torn:
        note = f"{folder}: {' and '.join(torn)}; drawing anew, finished trials are not run again."
        return None, note
    return None, None


def write_outcome(folder: Path, outcome: Outcome) -> None:
    """Record what the trial in `folder` came to; from here on it is not run again."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / OUTCOME_FILE, _format(dataclasses.asdict(outcome)))
    sync(folder)


def read_outcome(folder: Path, values: Mapping[str, Any] | None = None) -> Outcome | None:
    """Return what the trial in `folder` came to.

    Args:
        folder: The trial's.
        values: Its hyperparameters, where an outcome of others must not count.

    Returns:
        None when there is no whole record, or one of other values: the trial is to be run.
    """
    path = folder / OUTCOME_FILE
    try:
        fields = json.loads(path.read_bytes())
        outcome = Outcome(
            values=dict(fields["values"]),
            metrics={str(name): float(value) for name, value in fields["metrics"].items()},
            failure=None if fields["failure"] is None else str(fields["failure"]),
            seconds=float(fields["seconds"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    if values is not None and outcome.values != dict(values):
        return None
    return outcome
