from __future__ import annotations

from pathlib import Path

import pytest

from export.store.errors import StoreError
from export.store.files import be_only, signature_path, write_whole


def test_a_small_file_appears_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "latest"
    write_whole(path, b"1\n")
    write_whole(path, b"2\n")
    assert path.read_bytes() == b"2\n"
    assert list(tmp_path.iterdir()) == [path]


def test_the_second_of_two_is_refused(tmp_path: Path) -> None:
    lock = tmp_path / ".pull.lock"
    with (
        be_only(lock, "pull"),
        pytest.raises(StoreError, match="expected no other pull here, found one at work."),
        be_only(lock, "pull"),
    ):
        pass
    with be_only(lock, "pull"):
        pass


def test_a_signature_lies_beside_its_version() -> None:
    assert signature_path(Path("tiny/12")) == Path("tiny/12.sig")
