"""Hundreds of damaged folders, opened in C under sanitizers; the generator runs more by hand."""

from __future__ import annotations

import random

import pytest

from tests.export.lookup.c_programs import COMPILER
from tests.export.lookup.hostile import (
    DAMAGES,
    attack,
    build_driver,
    has_sanitizers,
    list_isas,
    make_damaged,
    open_folders,
    write_sound_folders,
)

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler here")


def content(folder):
    return {
        path.name: path.read_bytes() if path.is_file() and not path.is_symlink() else None
        for path in folder.iterdir()
        if path.lstat().st_size < 2**20
    }


def test_the_same_seed_gives_the_same_damage(tmp_path):
    sound = write_sound_folders(tmp_path)[1]
    for number in range(30):
        told = [
            make_damaged(sound, tmp_path / f"{number}_{turn}", random.Random(number))
            for turn in range(2)
        ]
        assert told[0] == told[1]
        assert content(tmp_path / f"{number}_0") == content(tmp_path / f"{number}_1")


@pytest.mark.parametrize("damage", dict.fromkeys(DAMAGES), ids=lambda damage: damage.__name__)
def test_a_damage_leaves_the_sound_folder_alone(tmp_path, damage):
    sound = write_sound_folders(tmp_path)[3]
    before = content(sound)
    for number in range(20):
        copy = tmp_path / str(number)
        make_damaged(sound, copy, random.Random(number), damages=(damage,))
    assert content(sound) == before


def test_the_driver_reports_crashes_and_wrong_answers(tmp_path):
    (tmp_path / "crash").write_text("#!/bin/sh\necho 0 ok\nkill -SEGV $$\n")
    (tmp_path / "wrong").write_text("#!/bin/sh\necho a probability that is none >&2\nexit 1\n")
    for name, message in (("crash", "exit code -11"), ("wrong", "a probability that is none")):
        (tmp_path / name).chmod(0o755)
        with pytest.raises(AssertionError, match=message):
            open_folders(tmp_path / name, [tmp_path / "a", tmp_path / "b"], "portable")


@pytest.mark.slow  # compiling with sanitizers takes long
def test_no_damaged_folder_crashes_the_reader_or_the_kernels(tmp_path):
    if not has_sanitizers(tmp_path):
        pytest.skip("no sanitizers here")
    program = build_driver(tmp_path, options=("-O0",))
    isas = list_isas(program, write_sound_folders(tmp_path)[0])
    assert "portable" in isas
    statuses = attack(program, tmp_path / "work", 500, 2026, isas)
    assert {"0", "2", "3"} <= statuses.keys() <= {"0", "2", "3", "4"}
