"""Rows of a CSV, and the rejected ones."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.tables.csv_rows import read_csv_rows
from pipeline.tables.row_batch import Reject, TableLayout
from pipeline.tables.source import DataError, SourceConfig
from pipeline.tables.source_bytes import SourceLimits

MakeTable = Callable[..., SourceConfig]
Row = tuple[int, str, str]


def read(
    source: SourceConfig, delimiter: str = ",", **limits: int
) -> tuple[list[Row], list[Reject]]:
    rows: list[Row] = []
    rejects: list[Reject] = []
    for batch in read_csv_rows(source, TableLayout(delimiter=delimiter), SourceLimits(**limits)):
        rows.extend(zip(batch.rows, batch.texts, batch.labels, strict=True))
        rejects.extend(batch.rejects)
    return rows, rejects


def test_rejects_carry_their_row_and_reason(make_table: MakeTable) -> None:
    source = make_table(
        b"title,category\na,b\n\nc,d,e\nx\n\xff,1\n2,\xfe\n" + '"뉴\n스",ok\n'.encode()
    )
    rows, rejects = read(source)
    assert rows == [(2, "a", "b"), (7, "뉴\n스", "ok")]
    assert rejects == [
        Reject(row=3, reason="wrong_field_count", sample="3 of 2 fields in 1 line(s): c,d,e"),
        Reject(row=4, reason="wrong_field_count", sample="1 of 2 fields in 1 line(s): x"),
        Reject(row=5, reason="undecodable_text", sample="\\xff"),
        Reject(row=6, reason="undecodable_label", sample="\\xfe"),
    ]


@pytest.mark.parametrize("bad", [b"\xff,b,c", b"\xff", b'"\xff\n",b,c', b"a,b,\xed\xa0\x80"])
def test_row_with_a_wrong_field_count_and_undecodable_bytes_costs_itself_only(
    make_table: MakeTable, bad: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    rows, (reject,) = read(make_table(b"title,category\na,b\n" + bad + b"\nc,d\n"))
    assert rows == [(2, "a", "b"), (4, "c", "d")]
    assert (reject.row, reject.reason) == (3, "wrong_field_count")
    assert "\\x" in reject.sample
    assert capfd.readouterr() == ("", "")


def test_undecodable_bytes_swallow_neither_delimiter_nor_line_end(make_table: MakeTable) -> None:
    # The first bytes of characters of two, three and four bytes, without the rest.
    content = b"title,category\n\xc3,b\n\xe0\xa0,b\n\xf0\x9f\x98,b\nx,\xc3\ny,b\n\xc3"
    rows, rejects = read(make_table(content))
    assert rows == [(6, "y", "b")]
    assert [(reject.row, reject.reason) for reject in rejects] == [
        *[(row, "undecodable_text") for row in (2, 3, 4)],
        (5, "undecodable_label"),
        (7, "wrong_field_count"),
    ]
    assert rejects[2].sample == "\\xf0\\x9f\\x98"


@pytest.mark.parametrize("block_bytes", [20, 21, 22, 23, 64])
def test_characters_on_the_border_of_a_block_stay_whole(
    make_table: MakeTable, block_bytes: int
) -> None:
    cells = ["뉴스", "a😀b", "é", "x"] * 20
    content = "t,title,category\n" + "".join(f",{cell},b\n" for cell in cells)
    rows, rejects = read(make_table(content.encode()), block_bytes=block_bytes)
    assert ([row[1] for row in rows], rejects) == (cells, [])


@pytest.mark.parametrize("delimiter", ["\t", ";", "|", " "])
def test_other_delimiters(make_table: MakeTable, delimiter: str) -> None:
    content = f'title{delimiter}category\n"a{delimiter}b"{delimiter}c,d\n'.encode()
    assert read(make_table(content), delimiter) == ([(2, f"a{delimiter}b", "c,d")], [])


def test_reject_behind_the_last_row_is_not_lost(make_table: MakeTable) -> None:
    rows, rejects = read(make_table(b"title,category\na,b\nc,d,e\n"))
    assert (len(rows), [reject.row for reject in rejects]) == (1, [3])


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbftitle,category\r\na,b\r\n",
        b"\n\ntitle,category\na,b",
        b'"title","category"\n"a","b"\n',
        b"other,category,title\n1,b,a\n",
        b"\xff,category,title\n1,b,a\n",
    ],
)
def test_bom_line_ends_quotes_and_further_columns_do_not_matter(
    make_table: MakeTable, content: bytes
) -> None:
    (row,), rejects = read(make_table(content))
    assert (row[1:], rejects) == (("a", "b"), [])


def test_cells_are_never_read_as_numbers_or_missing_values(make_table: MakeTable) -> None:
    rows, _ = read(make_table(b"n,title,category\n1,007,NA\nx,null,\n"))
    assert [row[1:] for row in rows] == [("007", "NA"), ("null", "")]


def test_blocks_continue_row_numbers(make_table: MakeTable) -> None:
    lines = [b"a%d,b" % n if n % 7 else b"c,d,%d" % n for n in range(500)]
    rows, rejects = read(make_table(b"title,category\n" + b"\n".join(lines)), block_bytes=64)
    assert [row[0] for row in rows] == [n + 2 for n in range(500) if n % 7]
    assert [reject.row for reject in rejects] == [n + 2 for n in range(0, 500, 7)]


def test_row_longer_than_a_block_is_explained(make_table: MakeTable) -> None:
    source = make_table(b"title,category\na,b\n" + b"x" * 9000 + b",d\n")
    with pytest.raises(DataError, match=r"rows of at most 1024 bytes, found a longer one at or"):
        read(source, block_bytes=1024)


@pytest.mark.parametrize(
    ("header", "match"),
    [
        ("a,b", r"expected one column 'title', found none among 'a', 'b'\. Name yours with"),
        ("title,b", r"expected one column 'category', found none among 'title', 'b'\."),
        ("title,title,category", r"expected one column 'title', found 2 of that name among"),
        (
            "title;category",
            r"among 'title;category'\. Name what separates the columns: --delimiter ';'\.",
        ),
    ],
)
def test_wrong_columns_are_named(make_table: MakeTable, header: str, match: str) -> None:
    with pytest.raises(DataError, match=match):
        read(make_table(f"{header}\n1,2\n".encode()))


def test_runaway_quote_has_its_own_reason(make_table: MakeTable) -> None:
    _, (reject,) = read(make_table(b'title,category\n"a,b\n' + b"c,d\n" * 30))
    assert reject.reason == "quote_never_closed"
    assert reject.sample.startswith("1 of 2 fields in 31 line(s): ")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(st.binary(max_size=6), max_size=12))
def test_whatever_the_bytes_every_record_is_a_row_or_a_reject(
    make_table: MakeTable, lines: list[bytes]
) -> None:
    table = bytes.maketrans(b'"\r\n', b"xyz")
    lines = [line.translate(table) + b"," for line in lines]  # so that no line is blank
    rows, rejects = read(make_table(b"title,category\na,b\n" + b"\n".join(lines)))
    found = sorted([row[0] for row in rows] + [reject.row for reject in rejects])
    assert found == list(range(2, 3 + len(lines)))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cells=st.lists(
        st.tuples(*[st.text(st.characters(exclude_characters='"\r\0', codec="utf-8"))] * 2),
        min_size=1,
        max_size=8,
    )
)
def test_quoted_cells_come_back_as_they_are(
    make_table: MakeTable, cells: list[tuple[str, str]]
) -> None:
    rows, rejects = read(make_table(cells))
    assert ([row[1:] for row in rows], rejects) == (cells, [])
