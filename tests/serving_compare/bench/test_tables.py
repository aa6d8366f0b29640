from __future__ import annotations

from collections.abc import Callable
from typing import Any

from serving_compare.bench.tables import (
    format_bench_markdown,
    format_ratio,
    make_bench_tables,
)
from serving_compare.results import Results
from serving_compare.text_table import Table

MakeParts = Callable[..., dict[str, Results]]
MakeBench = Callable[..., dict[str, Any]]


def find(bench: dict[str, Any], title: str) -> Table:
    (table,) = [table for table in make_bench_tables(bench) if table.title.startswith(title)]
    return table


def test_latencies_stand_by_form_and_length(make_bench: MakeBench):
    table = find(make_bench(), "H=128: microseconds by tokens, batch 1, warm")
    assert table.columns == ["Form", "1", "20"]
    assert table.rows[0] == ["lookup native avx512", "6.12", "25.5"]
    assert table.rows[-1] == ["null", "0.10", "0.10"]


def test_cells_of_a_single_process_are_marked_unstable(make_bench: MakeBench):
    table = find(make_bench(1), "H=128: microseconds by tokens, batch 1, cold")
    assert table.rows[0] == ["lookup native avx512", "50.0 ~"]


def test_our_exact_form_meets_every_rival_and_our_others_the_fastest_onnx(make_bench: MakeBench):
    table = find(make_bench(), "H=128: how many times faster")
    assert [row[0] for row in table.rows] == [
        "lookup native avx512 / onnx",
        "lookup native avx512 / saved_model",
        "lookup native int16 / onnx",
        "lookup numpy / onnx",
    ]
    assert table.rows[0][2] == "3.04x [3.04, 3.04]"
    assert "its fastest form: onnx static at 1 20 tokens." in table.note


def test_without_a_native_engine_numpy_is_ours(make_bench: MakeBench):
    bench = make_bench()
    bench["models"]["128"]["float32"] = None
    table = find(bench, "H=128: how many times faster")
    assert table.rows[0][0] == "lookup numpy / onnx"


def test_bulk_ends_with_the_ratio_to_each_rivals_best_way(make_bench: MakeBench):
    table = find(make_bench(), "H=128: sequences a second")
    assert table.rows[-2] == ["lookup native avx512 / best onnx", "3.00x [3.00, 3.00]"]
    assert table.rows[-1][0] == "lookup native avx512 / best saved_model"


def test_a_promise_says_whether_it_holds_or_why_not(make_bench: MakeBench):
    bench = make_bench()
    rows = {row[0]: row[1:] for row in find(bench, "What is promised").rows}
    assert rows["H=128, 20 tokens: float32 against onnx"] == [
        "at least 3x", "3.04x [3.04, 3.04]", "yes",
    ]  # fmt: skip
    assert rows["Cold start to the first answer, ids in"][0] == "at most 120ms"
    assert not any(name.startswith("H=256") for name in rows)
    bench["targets"][0] |= {"decided": False}
    rows = {row[0]: row[1:] for row in find(bench, "What is promised").rows}
    assert rows["H=128, 20 tokens: float32 against onnx"][2] == (
        "yes (open: the interval does not exclude the other)"
    )


def test_forms_that_did_not_run_are_listed_with_their_reason(make_bench: MakeBench):
    table = find(make_bench(), "Not timed")
    assert table.rows == [
        ["H=128", "lookup native avx2", "a reason"],
        ["H=128", "litert", "not installed"],
    ]


def test_a_ratio_without_an_interval_stands_alone():
    assert format_ratio({"ratio": 2.0, "ci95": None}) == "2.00x"
    assert format_ratio({"ratio": 0.85, "ci95": [0.8, 0.9]}, "") == "0.85 [0.80, 0.90]"
    assert format_ratio(None) == "n/a"


def test_the_markdown_holds_every_table_and_the_machine(make_bench: MakeBench):
    bench = make_bench()
    text = format_bench_markdown(bench)
    assert text.startswith("# bench-made-up\n")
    assert "Made-up CPU, 2 cores (avx2 avx512f)" in text
    for table in make_bench_tables(bench):
        assert f"## {table.title}\n" in text
