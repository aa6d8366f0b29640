from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow
import pytest

from export import part_store
from export.part_store import (
    PartStore,
    ScoreError,
    ScoreState,
    check_unchanged,
    read_input_state,
)

ROOT = Path(__file__).parents[2]
TABLE = pyarrow.table({"title": ["a", "b"]})


@pytest.fixture
def store(tmp_path: Path) -> PartStore:
    return PartStore(tmp_path / "out.csv")


@pytest.fixture
def state(tmp_path: Path) -> ScoreState:
    (tmp_path / "in.csv").write_text("title\na\nb\n")
    return ScoreState(
        input=read_input_state(tmp_path / "in.csv", {}),
        lookup_sha256="f" * 64,
        engine="numpy",
        text_column="title",
        k=3,
        part_rows=2,
        block_rows=2,
        format="csv",
    )


def begin_with_one_part(store: PartStore, state: ScoreState) -> None:
    store.begin(state, restart=False)
    store.write(0, TABLE)
    store.rejects.touch()


def test_parts_of_the_same_state_are_kept(store: PartStore, state: ScoreState) -> None:
    begin_with_one_part(store, state)
    store.begin(state, restart=False)
    assert (store.has(0), store.has(1)) == (True, False)
    assert store.publish(1, TABLE.schema, lambda table: None) == 0
    assert store.target.read_text() == '"title"\n"a"\n"b"\n'
    assert not store.folder.exists()


def test_a_renamed_or_touched_input_is_the_same_input(
    store: PartStore, state: ScoreState, tmp_path: Path
) -> None:
    begin_with_one_part(store, state)
    (tmp_path / "in.csv").rename(tmp_path / "other.csv")
    os.utime(tmp_path / "other.csv", (1, 1))
    moved = read_input_state(tmp_path / "other.csv", store.read_state())
    store.begin(dataclasses.replace(state, input=moved), restart=False)
    assert store.has(0)


def test_an_input_is_hashed_again_once_it_looks_different(
    store: PartStore, state: ScoreState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin_with_one_part(store, state)
    hashed: list[Any] = []
    digest = part_store.hashlib.file_digest

    def note(*arguments: Any) -> Any:
        hashed.append(arguments)
        return digest(*arguments)

    monkeypatch.setattr(part_store.hashlib, "file_digest", note)
    assert read_input_state(tmp_path / "in.csv", store.read_state()) == state.input
    assert hashed == []
    (tmp_path / "in.csv").write_text("title\na\nc\n")
    changed = read_input_state(tmp_path / "in.csv", store.read_state())
    assert (changed.sha256 != state.input.sha256, len(hashed)) == (True, 1)


CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"k": 5}, "found parts begun with k 3, not 5. Run the earlier command again to finish it,"),
    ({"text_column": "t", "format": "parquet"}, "text_column 'title', not 't'; format 'csv', not"),
    ({"engine": "native"}, "engine 'numpy', not 'native'"),
    ({"lookup_sha256": "0" * 64}, f"lookup_sha256 '{'f' * 64}', not '{'0' * 64}'"),
]


@pytest.mark.parametrize(("change", "message"), CHANGES)
def test_parts_of_other_options_are_never_mixed_in(
    store: PartStore, state: ScoreState, change: dict[str, Any], message: str
) -> None:
    begin_with_one_part(store, state)
    other = dataclasses.replace(state, **change)
    with pytest.raises(ScoreError, match=f"expected parts of this command, .*{message}"):
        store.begin(other, restart=False)
    assert store.has(0)
    store.begin(other, restart=True)
    assert not store.has(0)


def test_parts_of_another_input_are_never_mixed_in(
    store: PartStore, state: ScoreState, tmp_path: Path
) -> None:
    begin_with_one_part(store, state)
    (tmp_path / "in.csv").write_text("title\na\nc\n")
    other = dataclasses.replace(state, input=read_input_state(tmp_path / "in.csv", {}))
    with pytest.raises(
        ScoreError, match=r"found parts begun with other content of the input \(then '.*in.csv'\)\."
    ):
        store.begin(other, restart=False)


def test_parts_of_another_release_are_never_mixed_in(store: PartStore, state: ScoreState) -> None:
    begin_with_one_part(store, state)
    path = store.folder / "state.json"
    path.write_text(path.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(ScoreError, match="begun with state version 2, not 1. Run the earlier"):
        store.begin(state, restart=False)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"[" * 100_000, b" " * 2**21, None])
def test_parts_without_a_readable_state_count_for_nothing(
    store: PartStore, state: ScoreState, content: bytes | None
) -> None:
    begin_with_one_part(store, state)
    (store.folder / "state.json").unlink()
    if content is not None:
        (store.folder / "state.json").write_bytes(content)
    store.begin(state, restart=False)
    assert not store.has(0)


def test_an_existing_output_is_replaced_only_when_asked(
    store: PartStore, state: ScoreState
) -> None:
    store.target.write_text("precious")
    with pytest.raises(
        ScoreError,
        match="expected a new file, found one of 8 bytes. Delete it, choose another name, or pass",
    ):
        store.check_target(restart=False)
    store.check_target(restart=True)
    store.begin(state, restart=True)
    # Killed now: the same command goes on without saying --restart again.
    store.check_target(restart=False)


def test_the_folder_of_somebody_else_is_left_alone(store: PartStore) -> None:
    store.folder.mkdir()
    (store.folder / "thesis.txt").touch()
    with pytest.raises(ScoreError, match="expected finished parts only, found 'thesis.txt'. Move"):
        store.check_target(restart=True)
    (store.folder / "thesis.txt").unlink()
    store.folder.rmdir()
    store.folder.symlink_to(store.folder.parent)
    with pytest.raises(ScoreError, match="expected a folder for finished parts, found something"):
        store.check_target(restart=True)
    store.folder.unlink()
    store.folder.touch()
    with pytest.raises(ScoreError, match="expected a folder for finished parts, found something"):
        store.check_target(restart=True)


def test_an_output_is_written_into_an_existing_folder(tmp_path: Path) -> None:
    with (
        pytest.raises(ScoreError, match="expected an existing folder to write into, found none at"),
        PartStore(tmp_path / "none" / "out.csv").lock(),
    ):
        pass
    with (
        pytest.raises(ScoreError, match="expected the name of a file to write, found a folder."),
        PartStore(tmp_path).lock(),
    ):
        pass


def test_one_process_at_a_time_writes_an_output(store: PartStore) -> None:
    code = (
        "import sys; from pathlib import Path; from export.part_store import PartStore\n"
        f"with PartStore(Path({str(store.target)!r})).lock(): print('held', flush=True); input()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == "held\n"
        with (
            pytest.raises(ScoreError, match="only process that writes it, found another one at w"),
            store.lock(),
        ):
            pass
        with PartStore(store.target.with_name("other.csv")).lock():
            pass
    finally:
        child.communicate("\n", timeout=30)
    with store.lock():
        pass


def test_rejects_are_kept_beside_the_output(store: PartStore, state: ScoreState) -> None:
    begin_with_one_part(store, state)
    store.rejects.write_text('{"row": 2}\n{"row": 4}\n')
    assert store.publish(1, TABLE.schema, lambda table: None) == 2
    assert json.loads(store.published_rejects.read_text().splitlines()[1]) == {"row": 4}
    begin_with_one_part(store, state)
    store.publish(1, TABLE.schema, lambda table: None)
    assert not store.published_rejects.exists()


def test_what_is_written_is_handed_out(store: PartStore, state: ScoreState) -> None:
    begin_with_one_part(store, state)
    store.write(1, TABLE.slice(0, 1))
    sizes: list[int] = []
    store.publish(2, TABLE.schema, lambda table: sizes.append(table.num_rows))
    assert sizes == [2, 1]


def test_an_input_that_changes_while_it_is_read_is_noticed(
    state: ScoreState, tmp_path: Path
) -> None:
    check_unchanged(state.input)
    (tmp_path / "in.csv").write_text("title\na\nb\nc\n")
    with pytest.raises(
        ScoreError, match="expected to find it as it was when scoring began, found it changed."
    ):
        check_unchanged(state.input)
