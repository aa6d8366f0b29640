from __future__ import annotations

from typing import Any

from serving_compare.http_tables import (
    format_conditions,
    format_readme_http,
    format_share,
    make_http_tables,
)


def rows_of(http: dict[str, Any], key: str) -> list[list[str]]:
    (table,) = (table for table in make_http_tables(http) if table.key == key)
    return [list(row) for row in table.rows]


def test_no_section_has_no_tables():
    assert make_http_tables(None) == []


def test_one_request_at_a_time_stands_beside_the_same_text_in_the_process(
    http_section: dict[str, Any],
):
    rows = rows_of(http_section, "http_single")
    assert rows[2] == ["lookup", "300", "294 to 306", "450", "40.0", "87%", "4,000"]
    http_section["backends"]["lookup"]["single_stream"].update(
        in_process_median_us=None, p99_us=None
    )
    http_section["backends"]["lookup"]["http_share"]["single_stream"] = None
    assert rows_of(http_section, "http_single")[2][3:6] == ["n/a", "n/a", "n/a"]


def test_the_highest_rate_says_what_limited_it_and_what_share_of_null_it_is(
    http_section: dict[str, Any],
):
    http_section["backends"]["onnx"]["server"]["limited_by"] = "generator"
    rows = {row[0]: row[1:] for row in rows_of(http_section, "http_rate")}
    assert rows["lookup"] == ["2,400", "2,280 to 2,520", "6", "p99 above the limit", "86%"]
    assert rows["onnx"][0] == "≥ 1,600"
    assert rows["onnx"][3] == "the generator"
    http_section["backends"]["onnx"]["server"]["max_rate_per_s"] = 0.0
    found = rows_of(http_section, "http_rate")[1]
    assert (found[1], found[-1]) == ("n/a", "n/a")
    http_section["backends"]["null"]["server"]["max_rate_per_s"] = 0.0
    assert rows_of(http_section, "http_rate")[0][-1] == "n/a"
    del http_section["backends"]["null"]
    assert rows_of(http_section, "http_rate")[0][-1] == "n/a"


def test_every_probe_is_listed_and_void_ones_are_called_void(http_section: dict[str, Any]):
    rows = [row for row in rows_of(http_section, "http_curve") if row[0] == "lookup"]
    assert len(rows) == 6
    assert [row[-1] for row in rows].count("void") == 1
    assert rows[-1][4] == "n/a"


def test_the_other_generator_is_compared_in_percent(http_section: dict[str, Any]):
    http_section["backends"]["null"]["outside"] = None
    rows = rows_of(http_section, "http_outside")
    assert [row[0] for row in rows] == ["saved_model", "onnx", "lookup"]
    titles = [table.title for table in make_http_tables(http_section)]
    assert "The generator beside wrk 4.1.0, closed loop" in titles
    assert rows[2][1:5] == ["1", "2,640", "2,614", "-1.0%"]


def test_batches_and_ratios_have_tables_of_their_own(http_section: dict[str, Any]):
    assert rows_of(http_section, "http_offline")[2][:2] == ["lookup", "24,000"]
    assert rows_of(http_section, "http_ratios")[0] == [
        *("saved_model / onnx", "0.25", "0.24 to 0.26", "onnx"),
    ]
    http_section["ratios"][0].update(winner=None, ci95=None)
    assert rows_of(http_section, "http_ratios")[0][2:] == ["n/a", "no claim"]


def test_the_conditions_name_cores_processes_and_seed(http_section: dict[str, Any]):
    assert format_conditions(http_section) == (
        "1 worker process a backend on core 1, the load generator on core 0, 10 s a probe, seed 1."
    )
    http_section.update(workers=2, server_cores=[1, 2])
    assert "2 worker processes a backend on core 1, 2," in format_conditions(http_section)
    assert format_share(None) == "n/a"


def test_the_readmes_table_says_what_a_request_costs_and_how_many_are_held(
    http_section: dict[str, Any],
):
    lines = format_readme_http(http_section).splitlines()
    assert lines[0] == (
        "| Over HTTP | one request µs | of it HTTP | requests/s, p99 within 10 ms | "
        "texts/s in batches |"
    )
    assert lines[4] == "| lookup | 300 | 87% | 2,400 | 24,000 |"
    assert lines[-1].startswith("1 worker process a backend on core 1")
