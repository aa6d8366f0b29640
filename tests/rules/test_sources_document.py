"""docs/sources.md is true: its config runs, and its tables name what the code knows."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import get_args

from pipeline.config import PrepareConfig, TableFormat
from pipeline.data_config import read_data_config
from pipeline.tables.clean_rows import clean_rows
from pipeline.tables.source import resolve_source
from pipeline.tables.text_spool import TextSpool

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "sources.md").read_text(encoding="utf-8")
NEWS = """headline,section
A late goal,sport
A novel of the sea,Books
The opening night,Arts & Culture
Sponsored: a novel,Books
ok,sport
Something else,Misc
A test row,test 1
"""


def test_the_config_runs_and_does_what_its_comments_say(tmp_path: Path) -> None:
    (content,) = re.findall(r"```toml\n(.*?)```", DOCUMENT, re.S)
    (tmp_path / "data.toml").write_text(content, encoding="utf-8")
    (tmp_path / "news").mkdir()
    (tmp_path / "news" / "1.csv.gz").write_bytes(gzip.compress(NEWS.encode()))
    (tmp_path / "news" / "2.csv.gz").write_bytes(gzip.compress(NEWS.encode()))
    config = read_data_config(tmp_path / "data.toml")
    source = resolve_source(path=config.source, name=config.data_name)
    with TextSpool(tmp_path) as texts:
        rows = clean_rows(source, PrepareConfig(**config.fields), texts)
    assert source.name == "news"
    assert rows.label_names == ["sport", "culture"]
    assert (rows.rows_read, len(texts)) == (14, 6)
    assert rows.rejected == {
        "text_must_match": 2,
        "text_must_not_match": 2,
        "label_must_not_match": 2,
        "label_dropped": 2,
    }
    assert {reject.file for reject in rows.rejects} == {"1.csv.gz", "2.csv.gz"}
    assert rows.unmet_labels == []


def test_every_format_and_every_reason_stands_in_a_table() -> None:
    assert set(re.findall(r"^\| `(\w+)` \| `\.", DOCUMENT, re.M)) == set(get_args(TableFormat))
    code = "".join(
        (ROOT / "pipeline" / "tables" / f"{name}.py").read_text(encoding="utf-8")
        for name in ("csv_rows", "json_rows", "fasttext_rows", "parquet_rows", "clean_rows")
    )
    raised = re.findall(r'(?:reason=|_UnusableError\(|return |else )"(\w+)"', code)
    raised += re.findall(r'_reject\(number, "(\w+)"', code)
    reasons = DOCUMENT[DOCUMENT.index("## What becomes") : DOCUMENT.index("`rows_read` =")]
    documented = set(re.findall(r"`(\w+)`", reasons))
    found = {name for name in raised if "_" in name}
    assert len(found) > 12
    assert found <= documented
