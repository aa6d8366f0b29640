from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from serving_compare.bench.programs import Program, ProgramError, run_programs


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A program that does what its first argument says."""
    (tmp_path / "stand_in.py").write_text(
        "import os, pathlib, sys, time\n"
        "do, path = sys.argv[1:]\n"
        "pathlib.Path(path).write_text(f'{os.getpid()} {time.monotonic()}')\n"
        "if do == 'fail':\n"
        "    print('\\n'.join(f'line {i}' for i in range(30)))\n"
        "    sys.exit('the model is broken')\n"
        "if do == 'hang':\n"
        "    time.sleep(60)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "stand_in"


def make(module: str, folder: Path, do: str, number: int = 0) -> Program:
    return Program(
        name=f"program {number}",
        module=module,
        arguments=(do, str(folder / f"started-{number}")),
        log=folder / f"{number}.log",
    )


def is_running(path: Path) -> bool:
    try:
        os.kill(int(path.read_text().split()[0]), 0)
    except ProcessLookupError:
        return False
    return True


def test_every_program_runs(module: str, tmp_path: Path):
    programs = [make(module, tmp_path, "end", number) for number in range(3)]
    run_programs(programs, at_once=2, timeout_s=60)
    assert {path.name for path in tmp_path.glob("started-*")} == {
        "started-0", "started-1", "started-2",
    }  # fmt: skip


def test_a_failure_is_told_with_its_last_lines_and_ends_the_others(module: str, tmp_path: Path):
    programs = [make(module, tmp_path, "hang", 0), make(module, tmp_path, "fail", 1)]
    with pytest.raises(ProgramError) as caught:
        # The first one must have started before the second fails.
        run_programs(programs, at_once=2, timeout_s=60)
    message = str(caught.value)
    assert message.startswith(
        "program 1: expected it to succeed, found exit code 1. The last lines it wrote:\n"
    )
    assert message.endswith("    the model is broken")
    assert "line 29" in message
    assert "line 10\n" not in message
    started = tmp_path / "started-0"
    assert not started.exists() or not is_running(started)


def test_a_program_that_takes_too_long_is_ended(module: str, tmp_path: Path):
    began = time.monotonic()
    with pytest.raises(
        ProgramError,
        match=r"^program 0: expected an end within 1 s, found it still running. Close other",
    ):
        run_programs([make(module, tmp_path, "hang")], at_once=1, timeout_s=1)
    assert time.monotonic() - began < 30
    started = tmp_path / "started-0"
    assert not started.exists() or not is_running(started)


def test_nothing_to_run_is_done_at_once():
    run_programs([], at_once=1, timeout_s=1)
