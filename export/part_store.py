"""What bulk scoring has finished so far: `OUT.parts/` beside OUT, and OUT itself at the end.

A part appears in one rename, so whatever kills the process leaves finished parts only, and the
same command goes on at the first one that is missing. `state.json` beside them says what they were
computed from; parts of another input, artifact or choice of options are never mixed in.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from export.scored_table import publish_file, read_part, write_part, write_table

STATE_FILE = "state.json"
STATE_VERSION = 1
REJECTS_FILE = "rejects.jsonl"
MAX_STATE_BYTES = 2**20
_OURS = re.compile(r"state\.json|rejects\.jsonl|part-\d+\.arrow|\..+\.partial")


class ScoreError(Exception):
    """Scoring that cannot start or go on as it was asked for."""


@dataclass(frozen=True, kw_only=True)
class InputState:
    """A file as it was when scoring began: equal `sha256` means the same rows."""

    path: str
    bytes: int
    mtime_ns: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class ScoreState:
    """Everything the bytes of a part follow from.

    Attributes:
        input: The table.
        lookup_sha256: Of the lookup folder's manifest, which names the sha256 of its arrays.
        engine: What computes: engines agree within 1e-5, not to the last bit.
        text_column: Name of the text's column.
        k: Pairs of label and probability.
        part_rows: Rows of every part but the last.
        block_rows: Rows computed together.
        format: Of the output.
    """

    input: InputState
    lookup_sha256: str
    engine: str
    text_column: str
    k: int
    part_rows: int
    block_rows: int
    format: str

    def list_differences(self, record: dict[str, Any]) -> list[str]:
        """Return how a recorded state differs: "k 5, not 3" where 5 is the recorded value."""
        mine = asdict(self)
        differences = [
            f"{name} {record.get(name)!r}, not {value!r}"
            for name, value in mine.items()
            if name != "input" and record.get(name) != value
        ]
        recorded = record.get("input")
        if not isinstance(recorded, dict) or recorded.get("sha256") != self.input.sha256:
            place = recorded.get("path") if isinstance(recorded, dict) else None
            differences.insert(0, f"other content of the input (then {place!r})")
        return differences


class PartStore:
    """The finished parts of one output. Safe to share between the threads of one process.

    Args:
        target: The output, OUT.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.folder = target.with_name(f"{target.name}.parts")
        self.rejects = self.folder / REJECTS_FILE
        self.published_rejects = target.with_name(f"{target.name}.rejects.jsonl")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be the only process that writes this output.

        Raises:
            ScoreError: Another one is at it, or the place cannot be written.
        """
        if not self.target.parent.is_dir():
            raise ScoreError(
                f"{self.target}: expected an existing folder to write into, found none at "
                f"{self.target.parent}. Create it."
            )
        if self.target.is_dir():
            raise ScoreError(
                f"{self.target}: expected the name of a file to write, found a folder. Name a "
                "file in it."
            )
        lock = FileLock(self.target.with_name(f".{self.target.name}.lock"), blocking=False)
        try:
            with lock:
                yield
        except Timeout as err:
            raise ScoreError(
                f"{self.target}: expected to be the only process that writes it, found another "
                "one at work. Wait for it to end, or choose another name."
            ) from err

    def read_state(self) -> dict[str, Any]:
        """Return the recorded state, empty where there is none that can be read."""
        path = self.folder / STATE_FILE
        try:
            if path.stat().st_size > MAX_STATE_BYTES:
                return {}
            record = json.loads(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
            return {}
        return record if isinstance(record, dict) else {}

    def check_target(self, *, restart: bool) -> None:
        """Refuse to replace an output that nobody said may go; cheap, so to be called first.

        Raises:
            ScoreError: The output exists and nothing says that it is being replaced, or its
                parts folder holds what is not ours.
        """
        if self.target.exists() and not restart and not self.read_state():
            raise ScoreError(
                f"{self.target}: expected a new file, found one of "
                f"{self.target.stat().st_size} bytes. Delete it, choose another name, or pass "
                "--restart to replace it."
            )
        if self.folder.is_symlink() or (self.folder.exists() and not self.folder.is_dir()):
            raise ScoreError(
                f"{self.folder}: expected a folder for finished parts, found something else. "
                "Move it, or choose another name for the output."
            )
        if self.folder.is_dir():
            foreign = [path for path in self.folder.iterdir() if not _OURS.fullmatch(path.name)]
            if foreign:
                raise ScoreError(
                    f"{self.folder}: expected finished parts only, found {foreign[0].name!r}. "
                    "Move it, or choose another name for the output."
                )

    def begin(self, state: ScoreState, *, restart: bool) -> None:
        """Keep the parts of the same state, or start with none.

        Raises:
            ScoreError: There are parts of another state, and `restart` is False.
        """
        record = self.read_state()
        if record and not restart:
            if record.get("version") != STATE_VERSION:
                differences = [f"state version {record.get('version')!r}, not {STATE_VERSION}"]
            else:
                differences = state.list_differences(record)
            if differences:
                raise ScoreError(
                    f"{self.folder}: expected parts of this command, found parts begun with "
                    f"{'; '.join(differences)}. Run the earlier command again to finish it, or "
                    "pass --restart to start anew."
                )
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        text = json.dumps({"version": STATE_VERSION, **asdict(state)}, indent=2) + "\n"
        path = self.folder / STATE_FILE
        with publish_file(path, path.with_name(f".{path.name}.partial")) as file:
            file.write(text.encode())

    def part(self, number: int) -> Path:
        """Return the place of a part."""
        return self.folder / f"part-{number:08d}.arrow"

    def has(self, number: int) -> bool:
        """Whether a part is finished."""
        return self.part(number).exists()

    def write(self, number: int, table: Any) -> None:
        """Finish a part: a pyarrow table of scored rows."""
        write_part(self.part(number), table)

    def publish(self, parts: int, schema: Any, written: Callable[[Any], None]) -> int:
        """Write the output from its parts, and remove them.

        Args:
            parts: How many; all of them are finished.
            schema: The pyarrow schema of the output.
            written: Given each piece, a pyarrow table, once it is written.

        Returns:
            The number of rejected rows, which are kept beside the output.

        Raises:
            TableError: A part is damaged.
            OSError: The output cannot be written.
        """
        tables = (read_part(self.part(number)) for number in range(parts))
        with self.rejects.open("rb") as file:
            rejected = sum(1 for _ in file)
        write_table(
            self.target, self.folder / f".{self.target.name}.partial", schema, tables, written
        )
        if rejected:
            self.rejects.replace(self.published_rejects)
        else:
            self.published_rejects.unlink(missing_ok=True)
        # Without its state, what a kill leaves of the folder counts for nothing.
        (self.folder / STATE_FILE).unlink()
        shutil.rmtree(self.folder)
        return rejected


def read_input_state(path: Path, record: dict[str, Any]) -> InputState:
    """Return the state of an input, hashing it unless `record` still describes it.

    Args:
        path: The input.
        record: A recorded state, or an empty dict.
    """
    status = path.stat()
    known = record.get("input")
    if (
        isinstance(known, dict)
        and known.get("path") == str(path.resolve())
        and (known.get("bytes"), known.get("mtime_ns")) == (status.st_size, status.st_mtime_ns)
        and isinstance(known.get("sha256"), str)
    ):
        sha256 = known["sha256"]
    else:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return InputState(
        path=str(path.resolve()),
        bytes=status.st_size,
        mtime_ns=status.st_mtime_ns,
        sha256=sha256,
    )


def check_unchanged(state: InputState) -> None:
    """Refuse an input that was changed while it was being read.

    Raises:
        ScoreError: Its length or time of change is another.
    """
    status = Path(state.path).stat()
    if (status.st_size, status.st_mtime_ns) != (state.bytes, state.mtime_ns):
        raise ScoreError(
            f"{state.path}: expected to find it as it was when scoring began, found it changed. "
            "Run again with --restart once nothing writes to it."
        )
