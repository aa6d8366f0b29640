from __future__ import annotations

import io
import shutil

import pytest

from export.lookup import Probe, write_lookup
from export.lookup.__main__ import main


@pytest.fixture
def text_folder(tmp_path, raw_model, content, tokenizer):
    raw = raw_model(vocab_size=48)
    golden = [Probe("", (1,), tuple(raw.probabilities([1]).tolist()))]
    write_lookup(tmp_path / "lookup", **(content(raw, tokenizer) | {"golden": golden}))
    return str(tmp_path / "lookup")


def test_texts_get_their_best_labels(text_folder, capsys):
    assert main([text_folder, "the cat", "a dog", "--k", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == ["the cat", "a dog"]
    assert len(lines) == 6 and all("%  label " in line for line in lines if line[0] == " ")


def test_lines_of_the_standard_input_are_texts(text_folder, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("the cat\r\na dog\n"))
    assert main([text_folder, "--engine", "numpy", "--k", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (lines[0], lines[2]) == ("the cat", "a dog")


def test_what_is_wrong_is_one_line_and_exit_code_2(text_folder, tmp_path, capsys):
    assert main([str(tmp_path / "nowhere"), "text"]) == 2
    assert "nowhere: expected a lookup folder, found none. Give" in capsys.readouterr().err
    assert main([text_folder, "text", "--k", "0"]) == 2
    assert capsys.readouterr().err == "error: k: expected at least 1, found 0.\n"


def test_build_without_a_compiler_is_an_error_or_a_notice(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GATETABLE_CACHE", str(tmp_path))
    monkeypatch.setenv("CC", "no-such-compiler")
    assert main(["build"]) == 2
    assert capsys.readouterr().err.startswith("error: no-such-compiler: expected a C compiler")
    assert main(["build", "--optional"]) == 0
    assert capsys.readouterr().out.startswith(
        "notice: no native engine, the NumPy engine serves instead. no-such-compiler: expected"
    )


def test_a_cache_that_cannot_be_written_is_an_error_or_a_notice(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("GATETABLE_CACHE", str(tmp_path / "file" / "below"))
    if not any(map(shutil.which, ("cc", "gcc", "clang"))):
        pytest.skip("no C compiler here")
    assert main(["build"]) == 2
    assert "file" in capsys.readouterr().err
    assert main(["build", "--optional"]) == 0
    assert capsys.readouterr().out.startswith("notice: no native engine, the NumPy engine serves")
