from __future__ import annotations

import json
import os
import textwrap
import time
from pathlib import Path

import pytest

from serving_compare.child import Child, ChildError, ChildJob, Partner, run_children

WRITE_RESULT = """
    import json, os, pathlib, sys
    job = json.load(sys.stdin)
    output = pathlib.Path(job["output"])
    output.with_suffix(".json").write_text(json.dumps({"pid": os.getpid(), **job}))
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A stand-in for the worker that does what its job says."""
    (tmp_path / "standin.py").write_text(
        textwrap.dedent(WRITE_RESULT)
        + textwrap.dedent("""
            import time
            # Renamed, so that whoever finds it finds the number in it.
            output.with_suffix(".tmp").write_text(str(os.getpid()))
            output.with_suffix(".tmp").rename(output.with_suffix(".pid"))
            if job["do"] == "crash":
                output.with_suffix(".json").unlink()
                for line in range(40):
                    print("line", line, file=sys.stderr)
                raise RuntimeError("the model is broken")
            if job["do"] == "vanish":
                output.with_suffix(".json").unlink()
            if job["do"] == "hang":
                print("still here", file=sys.stderr, flush=True)
                time.sleep(60)
            if job["do"] == "die":
                os.kill(os.getpid(), 9)
        """)
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "standin"


def make_job(folder: Path, do: str, timeout_s: float = 30.0, name: str = "lookup, round 1"):
    return ChildJob(
        name=name, fields={"do": do}, output=folder / f"out-{do}-{name[-1]}", timeout_s=timeout_s
    )


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_finished_child_leaves_its_results(tmp_path: Path, module: str):
    done: list[str] = []
    job = make_job(tmp_path, "work")
    before_ns = time.perf_counter_ns()
    run_children([job], cores=[None], on_done=lambda job: done.append(job.name), module=module)
    facts = json.loads(job.output.with_suffix(".json").read_text())
    assert done == ["lookup, round 1"]
    assert facts["core"] is None
    assert before_ns < facts["spawned_ns"] < time.perf_counter_ns()


def test_children_run_one_a_core_and_all_of_them(tmp_path: Path, module: str):
    jobs = [make_job(tmp_path, "work", name=f"job {n}") for n in range(5)]
    run_children(jobs, cores=[0, 0], module=module)
    assert all(job.output.with_suffix(".json").is_file() for job in jobs)


def test_a_crashing_child_is_reported_with_the_tail_of_its_stderr(tmp_path: Path, module: str):
    with pytest.raises(
        ChildError,
        match=r"lookup, round 1: expected results, found the process ended with exit code 1\.",
    ) as caught:
        run_children([make_job(tmp_path, "crash")], cores=[None], module=module)
    assert "RuntimeError: the model is broken" in str(caught.value)
    assert "line 0\n" not in str(caught.value)


def test_a_killed_child_is_reported_with_its_signal(tmp_path: Path, module: str):
    with pytest.raises(ChildError, match="ended with signal SIGKILL"):
        run_children([make_job(tmp_path, "die")], cores=[None], module=module)


def test_a_child_that_ends_without_results_is_an_error(tmp_path: Path, module: str):
    with pytest.raises(ChildError, match=r"ended with exit code 0\. .*\n    \(nothing\)"):
        run_children([make_job(tmp_path, "vanish")], cores=[None], module=module)


def test_a_hanging_child_is_ended_at_its_time_limit(tmp_path: Path, module: str):
    job = make_job(tmp_path, "hang", timeout_s=1.5)
    with pytest.raises(ChildError, match="expected its results within 2 s, found it still running"):
        run_children([job], cores=[None], module=module)
    assert not is_running(int(job.output.with_suffix(".pid").read_text()))


def test_other_children_are_ended_when_one_fails(tmp_path: Path, module: str):
    hanging, crashing = make_job(tmp_path, "hang"), make_job(tmp_path, "crash")
    with pytest.raises(ChildError, match="exit code 1"):
        run_children([hanging, crashing], cores=[None, None], module=module)
    pid_file = hanging.output.with_suffix(".pid")
    assert not pid_file.is_file() or not is_running(int(pid_file.read_text()))


def test_leaving_the_block_ends_the_child(tmp_path: Path, module: str):
    job = make_job(tmp_path, "hang")
    with pytest.raises(KeyboardInterrupt), Child(job, core=None, module=module) as child:
        while not job.output.with_suffix(".pid").is_file():
            assert not child.is_done()
            time.sleep(0.02)
        raise KeyboardInterrupt
    assert not is_running(int(job.output.with_suffix(".pid").read_text()))


SPEAK = """
    import json, os, sys, time
    job = json.loads(sys.stdin.readline())
    print(json.dumps({"pid": os.getpid(), "core": job["core"]}), flush=True)
    for line in sys.stdin:
        message = json.loads(line)
        if message["do"] == "crash":
            raise RuntimeError("the model is broken")
        if message["do"] == "hang":
            time.sleep(60)
        print(json.dumps({"done": message["do"]}), flush=True)
"""


@pytest.fixture
def speaker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A stand-in for the worker that answers each line."""
    (tmp_path / "speaker.py").write_text(textwrap.dedent(SPEAK))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "speaker"


def test_a_partner_answers_line_by_line_and_is_ended(tmp_path: Path, speaker: str):
    with Partner(make_job(tmp_path, "x"), core=None, module=speaker) as partner:
        pid = partner.listen()["pid"]
        partner.say({"do": "first"})
        assert partner.listen() == {"done": "first"}
        assert partner.ask({"do": "second"}) == {"done": "second"}
        assert is_running(pid)
    assert not is_running(pid)


def test_a_crashing_partner_is_reported_when_its_answer_is_waited_for(tmp_path: Path, speaker: str):
    with Partner(make_job(tmp_path, "x"), core=None, module=speaker) as partner:
        partner.listen()
        partner.say({"do": "crash"})
        with pytest.raises(
            ChildError, match=r"lookup, round 1: .* ended with exit code 1\."
        ) as caught:
            partner.listen()
        assert "RuntimeError: the model is broken" in str(caught.value)
        with pytest.raises(ChildError, match="exit code 1"):
            partner.ask({"do": "more"})


def test_a_hanging_partner_is_killed_at_its_time_limit(tmp_path: Path, speaker: str):
    job = make_job(tmp_path, "x", timeout_s=1.5)
    with Partner(job, core=None, module=speaker) as partner:
        pid = partner.listen()["pid"]
        with pytest.raises(ChildError, match="expected its results within 2 s, found it still"):
            partner.ask({"do": "hang"})
        assert not is_running(pid)


def test_a_partner_that_is_no_program_is_reported(tmp_path: Path):
    with (
        Partner(make_job(tmp_path, "x"), core=None, module="no_such_module") as partner,
        pytest.raises(ChildError, match="No module named no_such_module"),
    ):
        partner.listen()
