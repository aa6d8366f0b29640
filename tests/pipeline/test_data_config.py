"""The TOML file of a data set: what it sets, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config import FilterConfig
from pipeline.data_config import DataConfig, read_data_config
from pipeline.tables.source import DataError, resolve_source


def read(folder: Path, content: str | bytes) -> DataConfig:
    path = folder / "data.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_data_config(path)


def test_empty_file_sets_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, "") == DataConfig(fields={"filters": FilterConfig(), "label_map": ()})


def test_every_key_is_read_and_sources_are_relative_to_the_file(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        r"""
        source = ["news/*.csv.gz", "/data/more.csv"]
        data_name = "news"
        format = "csv"
        text_column = "headline"
        label_column = "section"
        delimiter = "\t"
        label_prefix = "#"
        vocab_size = 8000
        max_tokens = 64
        [filters]
        text_must_match = '\w'
        label_must_not_match = "^test$"
        [labels]
        "Arts & Culture" = "culture"
        Books = "culture"
        Junk = ""
        Test = false
        """,
    )
    assert config.source == (tmp_path / "news/*.csv.gz", Path("/data/more.csv"))
    assert config.data_name == "news"
    assert config.fields == {
        "format": "csv",
        "text_column": "headline",
        "label_column": "section",
        "delimiter": "\t",
        "label_prefix": "#",
        "vocab_size": 8000,
        "max_tokens": 64,
        "filters": FilterConfig(text_must_match=r"\w", label_must_not_match="^test$"),
        "label_map": (
            ("Arts & Culture", "culture"),
            ("Books", "culture"),
            ("Junk", ""),
            ("Test", ""),
        ),
    }


def test_one_source_needs_no_list(tmp_path: Path) -> None:
    assert read(tmp_path, 'source = "a.csv"').source == (tmp_path / "a.csv",)


def test_folder_whose_name_looks_like_a_pattern_is_that_folder(tmp_path: Path) -> None:
    folder = tmp_path / "news[1]"
    folder.mkdir()
    (folder / "a.csv").write_text("")
    source = resolve_source(path=read(folder, 'source = "*.csv"').source)
    assert [file.path for file in source.files] == [folder / "a.csv"]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("a = \nb = 1", r"data\.toml: expected TOML, found .*line 1"),
        (b"a = '\xff'", r"data\.toml: expected TOML, found .*can't decode byte 0xff"),
        ("a = " + "[" * 5000, r"data\.toml: expected TOML, found "),
        ("#" * 2**20 + "#", r"a TOML file of at most 1048576 bytes, found more\."),
        ("vocab = 1", r"data\.toml: expected keys among source, .*, labels, found 'vocab'\."),
        ("[filters]\ntext = 'a'", r"\[filters\]: expected keys among text_must_.* found 'text'\."),
        ("filters = 1", r"filters: expected a table, \[filters\], found 1\."),
        ("source = 1", r"source: expected a path or a list of paths, found 1\."),
        ("source = ['a', 1]", r"source: expected a path or a list of paths, found \['a', 1\]\."),
        ("text_column = 1", r"data\.toml: text_column: expected a string, found 1\."),
        ("data_name = []", r"data\.toml: data_name: expected a string, found \[\]\."),
        ("vocab_size = '9'", r"data\.toml: vocab_size: expected an integer from 16 .* found '9'"),
        ("vocab_size = 1", r"data\.toml: vocab_size: expected a value from 16 to .*, found 1\."),
        ("format = 'xml'", r"data\.toml: format: expected one of csv, tsv, .*, found 'xml'\."),
        ("delimiter = 'ab'", r"data\.toml: delimiter: expected one ASCII character .* 'ab'\."),
        ("label_prefix = 'a b'", r"data\.toml: label_prefix: expected no blanks, found 'a b'\."),
        (
            "[filters]\ntext_must_match = '('",
            r"data\.toml: \[filters\] text_must_match: expected a regular expression .*, found "
            r"'\(' \(missing \), unterminated subpattern",
        ),
        (
            "[filters]\nlabel_must_match = 'a{99999999999}'",
            r"label_must_match: expected a regular expression .*overflow|repetition",
        ),
        ("[filters]\ntext_must_match = 1", r"text_must_match: expected a regular expression, fou"),
        (
            "[filters]\ntext_must_match = '" + "a" * 1001 + "'",
            r"text_must_match: expected at most 1000 characters, found 1001\.",
        ),
        ("[labels]\na = 1", r"\[labels\] 'a': expected a label, or \"\" or false .*, found 1\."),
        ("[labels]\na = true", r"\[labels\] 'a': expected a label, .*, found True\."),
        ("[labels]\na = ' b'", r"data\.toml: labels: expected labels without blanks .*' b'\."),
    ],
)
def test_what_is_wrong_is_one_line_with_file_and_key(
    tmp_path: Path, content: str | bytes, match: str
) -> None:
    with pytest.raises(DataError, match=match) as caught:
        read(tmp_path, content)
    assert str(caught.value).startswith(str(tmp_path / "data.toml"))
    assert "\n" not in str(caught.value)


def test_missing_file_is_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.toml: expected a TOML file, found No such file"):
        read_data_config(tmp_path / "none.toml")
