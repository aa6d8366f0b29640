"""The versions of an artifact on disk: which there are, which one `latest` names, which may go.

`<artifacts>/<name>/latest` is what servers follow. It is replaced in one rename; what it named
before is kept in `history.jsonl` beside it, so that a rollback knows where to go. Whoever moves or
reads them for a decision holds `.versions.lock`. An export is not asked to: it only ever adds a
version and points `latest` at it, which is seen here afterwards.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from export.bundle import (
    MANIFEST_FILE,
    MAX_MANIFEST_BYTES,
    BundleError,
    iterate_versions,
    read_artifact,
)
from export.store.errors import DamageError, StoreError
from export.store.files import be_only, signature_path, sync_folder, write_whole
from export.store.location import is_version
from pipeline.run_folder import LATEST_FILE

HISTORY_FILE = "history.jsonl"
MAX_HISTORY = 200
"""Lines kept; a line is about 70 bytes."""
MAX_HISTORY_BYTES = 2**20
LOCK_WAIT_S = 10.0
"""Pointers move in milliseconds; a promotion reads a whole version first."""
_DELETED = ".deleted-"


@dataclass(frozen=True, kw_only=True)
class Version:
    """One version as its folder tells it.

    Attributes:
        number: Increasing integer.
        is_latest: Whether `latest` names it.
        is_signed: Whether a signature lies beside it; says nothing about whose.
        published: Time of its manifest.
        size: Bytes of all files; None where the manifest cannot be read.
        top_1: Accuracy on the test split, a fraction; None where it is not told.
        defect: What is wrong with its manifest, if anything.
    """

    number: int
    is_latest: bool
    is_signed: bool
    published: datetime
    size: int | None
    top_1: float | None
    defect: str | None


def list_names(artifacts: Path) -> list[str]:
    """Return the names that have a version, sorted."""
    return sorted(
        {path.parent.parent.name for path in artifacts.glob("[!.]*/[0-9]*/manifest.json")}
    )


def read_latest(folder: Path) -> int | None:
    """Return the version that `latest` names, None where there is no such file.

    Raises:
        StoreError: It holds something else.
    """
    place = folder / LATEST_FILE
    try:
        with place.open("rb") as file:
            text = file.read(64).decode("ascii", "replace").strip()
    except FileNotFoundError:
        return None
    if not is_version(text):
        raise StoreError(
            f"{place}: expected the number of a version, found {text[:20]!r}. Say which with "
            "`python -m export promote`."
        )
    return int(text)


def list_versions(folder: Path) -> list[Version]:
    """Return the versions of `<artifacts>/<name>`, oldest first. No file but manifests is read."""
    latest = read_latest(folder)
    return [
        _read_version(folder / str(number), latest) for number in sorted(iterate_versions(folder))
    ]


def _read_version(folder: Path, latest: int | None) -> Version:
    place = folder / MANIFEST_FILE
    size = top_1 = defect = None
    try:
        if place.stat().st_size > MAX_MANIFEST_BYTES:
            raise ValueError("larger than a manifest may be")
        manifest: Any = json.loads(place.read_bytes())
        size = sum(int(record["bytes"]) for record in manifest["files"].values())
        top_1 = manifest["metrics"].get("replayed", {}).get("keras", {}).get("top_1")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
        defect = f"manifest.json: {type(err).__name__}"
    return Version(
        number=int(folder.name),
        is_latest=int(folder.name) == latest,
        is_signed=signature_path(folder).is_file(),
        published=datetime.fromtimestamp(place.stat().st_mtime, UTC),
        size=size,
        top_1=top_1 if isinstance(top_1, float) else None,
        defect=defect,
    )


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    if not any(iterate_versions(folder)):
        raise StoreError(
            f"{folder}: expected an artifact's folder with a version in it, found none. Export a "
            "run with `make export`, or correct the path."
        )
    with be_only(folder / ".versions.lock", "change of versions", wait_s=LOCK_WAIT_S):
        yield


def read_history(folder: Path) -> list[dict[str, Any]]:
    """Return what `latest` was moved to, oldest first; lines that are damaged are left out."""
    try:
        with (folder / HISTORY_FILE).open("rb") as file:
            lines = file.read(MAX_HISTORY_BYTES).splitlines()
    except FileNotFoundError:
        return []
    events = []
    for line in lines:
        try:
            event = json.loads(line)
            if isinstance(event["version"], int) and isinstance(event["why"], str):
                events.append(event)
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
    return events


def is_chosen(folder: Path) -> bool:
    """Whether somebody promoted, rolled back to or pulled the version that `latest` names."""
    events = read_history(folder)
    return bool(events) and events[-1]["version"] == read_latest(folder)


def stack_versions(events: list[dict[str, Any]]) -> list[int]:
    """Return the versions that were in use, each moved away from by the one behind it.

    A rollback takes back the last move, so two of them go two versions back.
    """
    stack: list[int] = []
    for event in events:
        if event["why"] == "rollback":
            while stack and stack[-1] != event["version"]:
                stack.pop()
        if not stack or stack[-1] != event["version"]:
            stack.append(event["version"])
    return stack


def _event(version: int, why: str) -> dict[str, Any]:
    return {
        "version": version,
        "why": why,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _see(folder: Path) -> list[dict[str, Any]]:
    """Return the history with what was published since its last line, which nobody wrote down."""
    events, latest = read_history(folder), read_latest(folder)
    if latest is None or (events and events[-1]["version"] == latest):
        return events
    known = max((event["version"] for event in events), default=0)
    if latest > known:
        # Exports publish in order, and each moves `latest` to its own version.
        between = sorted(number for number in iterate_versions(folder) if known < number < latest)
        return events + [_event(number, "export") for number in (*between, latest)]
    # By hand, or by a move that was killed before it wrote its line.
    back = latest in stack_versions(events)
    return [*events, _event(latest, "rollback" if back else "export")]


def _move(folder: Path, events: list[dict[str, Any]]) -> None:
    """Point `latest` at the last event's version, and write that down."""
    write_whole(folder / LATEST_FILE, f"{events[-1]['version']}\n".encode())
    text = "".join(json.dumps(event) + "\n" for event in events[-MAX_HISTORY:])
    write_whole(folder / HISTORY_FILE, text.encode())


def _find_earlier(folder: Path, events: list[dict[str, Any]], latest: int | None) -> int | None:
    """Return the version that a rollback goes to, None where there is none."""
    known = set(iterate_versions(folder)) - {latest}
    used = [number for number in stack_versions(events)[:-1] if number in known]
    # Without a history: what an export published before.
    older = sorted(number for number in known if latest and number < latest)
    return next(iter(used[-1:] or older[-1:]), None)


def _check(folder: Path, version: int) -> None:
    """Read a version before servers are sent to it."""
    if version not in (known := sorted(iterate_versions(folder))):
        raise StoreError(
            f"{folder}: expected version {version}, found {', '.join(map(str, known))} only. "
            "Choose one of them, or pull it."
        )
    try:
        read_artifact(folder / str(version))
    except BundleError as err:
        raise DamageError(f"{err} `latest` was left as it is.") from err


def promote(folder: Path, version: int, *, why: str = "promote") -> bool:
    """Point `latest` at a version, once it was read and found undamaged.

    Args:
        folder: `<artifacts>/<name>`.
        version: One of it.
        why: Written into the history.

    Returns:
        False where `latest` named it already.

    Raises:
        StoreError: There is no such version.
        DamageError: It is damaged.
    """
    with _lock(folder):
        _check(folder, version)
        if read_latest(folder) == version:
            return False
        _move(folder, [*_see(folder), _event(version, why)])
        return True


def rollback(folder: Path) -> tuple[int, int]:
    """Point `latest` back at the version it named before, as far as that one still exists.

    Returns:
        The version it named, and the one it names now.

    Raises:
        StoreError: There is nothing to go back to.
        DamageError: The version to go back to is damaged.
    """
    with _lock(folder):
        events, latest = _see(folder), read_latest(folder)
        earlier = _find_earlier(folder, events, latest)
        if latest is None or earlier is None:
            raise StoreError(
                f"{folder}: expected a version to go back to from {latest}, found none. Say which "
                "with `python -m export promote`."
            )
        _check(folder, earlier)
        _move(folder, [*events, _event(earlier, "rollback")])
        return latest, earlier


def prune(folder: Path, keep: int, *, dry_run: bool = False) -> list[int]:
    """Delete old versions, never the one that `latest` names nor the one a rollback goes to.

    A version leaves in one rename and is deleted then, so that no reader finds half of one.

    Args:
        folder: `<artifacts>/<name>`.
        keep: Versions to keep, the newest ones.
        dry_run: Only say which.

    Returns:
        The versions that went, oldest first.

    Raises:
        ValueError: `keep` is below 1.
        StoreError: `latest` is missing, or names no version.
    """
    if keep < 1:
        raise ValueError(f"keep: expected 1 or more, found {keep}.")
    with _lock(folder):
        known, latest = sorted(iterate_versions(folder)), read_latest(folder)
        if latest not in known:
            raise StoreError(
                f"{folder / LATEST_FILE}: expected one of the versions "
                f"{', '.join(map(str, known))}, found {latest}. Say which with "
                "`python -m export promote`; nothing was deleted."
            )
        kept = {latest, _find_earlier(folder, _see(folder), latest), *known[-keep:]}
        gone = [number for number in known if number not in kept]
        if not dry_run:
            for number in gone:
                version = folder / str(number)
                version.rename(folder / f"{_DELETED}{number}-{os.getpid()}")
                signature_path(version).unlink(missing_ok=True)
            sync_folder(folder)
            for path in folder.glob(f"{_DELETED}*"):  # of an interrupted prune too
                if re.fullmatch(rf"{re.escape(_DELETED)}\d+-\d+", path.name):
                    shutil.rmtree(path)
        return gone
