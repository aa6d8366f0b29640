from __future__ import annotations

from collections.abc import Callable

import pytest

from serving_compare.report import build_report
from serving_compare.results import Results
from serving_compare.verdict import find_verdict, format_verdict

MakeResults = Callable[..., Results]


def test_the_answer_names_who_by_how_much_and_how_sure(make_results: MakeResults):
    verdict = find_verdict(build_report(make_results()))
    assert verdict is not None
    assert (verdict.fastest, verdict.chars, verdict.is_sure) == ("onnx", "20", True)
    assert [lead.rival for lead in verdict.leads] == ["lookup", "saved_model"]
    assert verdict.leads[0].ratio == pytest.approx(1.25, rel=0.01)
    assert verdict.leads[0].median_us == pytest.approx(50.2, rel=0.01)
    # 5 cells and the cold start, two rivals each.
    assert (verdict.wins, verdict.losses, verdict.undecided) == (12, 0, 0)
    assert format_verdict(verdict) == [
        "onnx is the fastest: 40.2 µs for one title of 20 characters, string in; lookup takes "
        "1.25 times as long [1.25, 1.25], saved_model 24.91 times [24.81, 25.00].",
        "Of 12 comparisons with another backend over all cells, onnx wins 12, loses 0, and 0 are "
        "too close to call; a win is one whose 95 % interval excludes equality.",
        "All 15 medians stayed within 10 % between 6 rounds.",
    ]


def test_medians_that_moved_are_counted_beside_the_ratios_that_did_not(make_results: MakeResults):
    moods = [1000, 1500, 1000, 1500, 1000, 1500]
    together = make_results({"onnx": [2 * mood for mood in moods], "lookup": moods})
    lines = format_verdict(find_verdict(build_report(together)))
    assert lines[2] == (
        "10 of 10 medians moved by more than 10 % between rounds (~), and 0 of 6 ratios. Trust the "
        "ratios, which are paired within a round, before the microseconds."
    )
    apart = make_results({"onnx": [2 * mood for mood in moods], "lookup": moods[1:] + moods[:1]})
    assert format_verdict(find_verdict(build_report(apart)))[2] == (
        "10 of 10 medians moved by more than 10 % between rounds (~), and 5 of 6 ratios. Compare "
        "again on a quieter machine."
    )


def test_old_reports_do_not_say_whether_ratios_moved(make_results: MakeResults):
    report = build_report(make_results({"onnx": [1000, 1500] * 3, "lookup": [500, 750] * 3}))
    for sizes in report["ratios"].values():
        for pairs in sizes.values():
            for pair in pairs:
                del pair["stable"]
    verdict = find_verdict(report)
    assert verdict is not None
    assert verdict.moved_ratios is None
    assert "rounds (~). Trust the ratios" in format_verdict(verdict)[2]


def test_a_lead_that_is_not_claimed_is_not_called_the_fastest(make_results: MakeResults):
    near = {"onnx": [1000, 1100, 900, 1050, 950, 1000], "lookup": [1001] * 6}
    verdict = find_verdict(build_report(make_results(near)))
    assert verdict is not None
    assert not verdict.is_sure
    first, second, _ = format_verdict(verdict)
    assert first.startswith(
        "onnx has the least median, 1.0 µs for one title of 20 characters, string in, but is not "
        "shown to be faster than every other; lookup takes 1.00 times as long"
    )
    assert first.endswith("(no claim).")
    assert "are too close to call" in second


def test_too_few_rounds_name_no_winner(make_results: MakeResults):
    few = make_results({"onnx": [1000] * 3, "lookup": [2000] * 3})
    assert format_verdict(find_verdict(build_report(few)))[1] == (
        "No winner is named: that takes 6 rounds, found 3."
    )


def test_a_backend_alone_and_none_at_all_say_so(make_results: MakeResults):
    alone = find_verdict(build_report(make_results({"lookup": [1000] * 6})))
    assert format_verdict(alone) == [
        "lookup takes 1.0 µs for one title of 20 characters, string in. It was timed alone."
    ]
    report = build_report(make_results({"lookup": [1000] * 6}))
    del report["backends"]["lookup"]
    assert find_verdict(report) is None
    assert format_verdict(None) == ["Nothing but the harness was timed."]
