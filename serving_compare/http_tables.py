"""The tables of a report's `http` section: one request at a time, batches, rates, a cross-check."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serving_compare.backends import NULL
from serving_compare.text_table import (
    NOT_AVAILABLE,
    Table,
    format_amount,
    format_interval,
    format_markdown_table,
)

Json = Mapping[str, Any]
_LIMITS = {
    "slo": "p99 above the limit",
    "errors": "errors",
    "generator": "the generator",
}


def make_http_tables(http: Json | None) -> list[Table]:
    """Return the tables of the section, none where it is None."""
    if http is None:
        return []
    return [
        _make_single_stream_table(http),
        _make_rate_table(http),
        _make_rate_ratio_table(http),
        _make_offline_table(http),
        _make_outside_table(http),
        _make_curve_table(http),
    ]


def format_conditions(http: Json) -> str:
    """Return on which cores server and generator ran, and for how long each probe."""
    workers = http["workers"]
    return (
        f"{workers} worker process{'es' if workers > 1 else ''} a backend on core "
        f"{_format_cores(http['server_cores'])}, the load generator on core "
        f"{_format_cores(http['generator_cores'])}, {http['duration_s']:g} s a probe, seed "
        f"{http['seed']}."
    )


def format_readme_http(http: Json) -> str:
    """Return the README's table over HTTP: a request alone, HTTP's share of it, the highest rate.

    Args:
        http: The section of a report.json.

    Returns:
        A Markdown table, and behind an empty line a sentence on the conditions.
    """
    rows = [
        [
            backend,
            format_amount(found["single_stream"]["median_us"]),
            format_share(found["http_share"]["single_stream"]),
            format_max_rate(found["server"]),
            format_amount(found["offline"]["sequences_per_s"]),
        ]
        for backend, found in http["backends"].items()
    ]
    table = Table(
        title="",
        columns=[
            *("Over HTTP", "one request µs", "of it HTTP"),
            f"requests/s, p99 within {http['slo_p99_ms']:g} ms",
            "texts/s in batches",
        ],
        rows=rows,
    )
    return f"{format_markdown_table(table)}\n{format_conditions(http)}\n"


def format_max_rate(server: Json) -> str:
    """Return the highest rate; what the generator could not go beyond is a bound, or nothing."""
    rate = server["max_rate_per_s"]
    if server["limited_by"] != "generator":
        return format_amount(rate)
    return f"≥ {rate:,.0f}" if rate else NOT_AVAILABLE


def format_share(share: float | None) -> str:
    """Return a fraction as whole percent, or n/a."""
    return NOT_AVAILABLE if share is None else f"{share:.0%}"


def _format_cores(cores: list[int]) -> str:
    return ", ".join(map(str, cores))


def _make_single_stream_table(http: Json) -> Table:
    rows = []
    for backend, found in http["backends"].items():
        single = found["single_stream"]
        rows.append(
            [
                backend,
                format_amount(single["median_us"]),
                format_interval(single["ci95"], ",.0f"),
                format_amount(single["p99_us"]),
                format_amount(single["in_process_median_us"], ",.1f"),
                format_share(found["http_share"]["single_stream"]),
                f"{single['n']:,}",
            ]
        )
    return Table(
        key="http_single",
        title="Microseconds of a request over HTTP, one at a time, string in",
        columns=[
            *("Backend", "Median", "95 % interval", "p99", "In the process", "HTTP's share"),
            "Requests",
        ],
        rows=rows,
        note="In the process: the same texts without HTTP. The row null is a server whose model "
        f"does nothing: what HTTP alone costs. {format_conditions(http)}",
    )


def _make_rate_table(http: Json) -> Table:
    bare = http["backends"].get(NULL)
    rows = []
    for backend, found in http["backends"].items():
        server = found["server"]
        most = bare and bare["server"]["max_rate_per_s"]
        rate = server["max_rate_per_s"]
        share = rate / most if most and format_max_rate(server) != NOT_AVAILABLE else None
        rows.append(
            [
                backend,
                format_max_rate(server),
                format_interval(server["ci95"], ",.0f"),
                str(server["rounds"]),
                _LIMITS.get(server["limited_by"], server["limited_by"]),
                format_share(share),
            ]
        )
    return Table(
        key="http_rate",
        title=f"Most requests a second with a p99 within {http['slo_p99_ms']:g} ms",
        columns=["Backend", "1/s", "95 % interval", "Rounds", "Limited by", "Of null's"],
        rows=rows,
        note="Poisson arrivals, open loop: a request's latency counts from when it was to be sent, "
        "not from when a slow server let it be sent. Of null's: share of the rate that the same "
        "server reaches with a model that does nothing.",
    )


def _make_rate_ratio_table(http: Json) -> Table:
    rows = [
        [
            f"{pair['first']} / {pair['second']}",
            f"{pair['ratio']:.2f}",
            format_interval(pair["ci95"], ".2f"),
            pair["winner"] or "no claim",
        ]
        for pair in http["ratios"]
    ]
    return Table(
        key="http_ratios",
        title="Ratios of the most requests a second",
        columns=["Ratio of", "Ratio", "95 % interval", "More"],
        rows=rows,
        is_detail=True,
    )


def _make_offline_table(http: Json) -> Table:
    rows = []
    for backend, found in http["backends"].items():
        offline = found["offline"]
        rows.append(
            [
                backend,
                format_amount(offline["sequences_per_s"]),
                format_interval(offline["ci95"], ",.0f"),
                str(offline["batch_size"]),
                f"{offline['n']:,}",
            ]
        )
    return Table(
        key="http_offline",
        title="Sequences a second over HTTP, in batches",
        columns=["Backend", "1/s", "95 % interval", "Texts a request", "Requests"],
        rows=rows,
    )


def _make_outside_table(http: Json) -> Table:
    rows = []
    tools: dict[str, bool] = {}  # in their order, each once
    for backend, found in http["backends"].items():
        outside = found["outside"]
        if outside is None:
            continue
        tools[outside["tool"]] = True
        theirs, ours = outside["requests_per_s"], outside["ours_requests_per_s"]
        rows.append(
            [
                backend,
                str(outside["connections"]),
                format_amount(theirs),
                format_amount(ours),
                f"{ours / theirs - 1:+.1%}" if theirs else NOT_AVAILABLE,
                format_amount(outside["p50_us"]),
                format_amount(outside["ours_p50_us"]),
            ]
        )
    return Table(
        key="http_outside",
        title=f"The generator beside {', '.join(tools) or 'another one'}, closed loop",
        columns=[
            *("Backend", "Connections", "Its 1/s", "Ours 1/s", "Difference"),
            *("Its median µs", "Ours"),
        ],
        rows=rows,
        note="The same server, path and body. What both measure should agree.",
    )


def _make_curve_table(http: Json) -> Table:
    rows = []
    for backend, found in http["backends"].items():
        for probe in found["curve"]:
            rows.append(
                [
                    backend,
                    format_amount(probe["rate_per_s"]),
                    format_amount(probe["achieved_per_s"]),
                    format_amount(probe["p50_us"]),
                    format_amount(probe["p99_us"]),
                    format_amount(probe["service_p99_us"]),
                    f"{probe['refused']:,}",
                    f"{probe['errors']:,}",
                    f"{probe['n']:,}",
                    format_amount(probe["lag_p99_us"]),
                    "yes" if probe["valid"] else "void",
                ]
            )
    return Table(
        key="http_curve",
        title="Latency by rate, every probe, microseconds",
        columns=[
            *("Backend", "Asked 1/s", "Answered 1/s", "p50", "p99", "p99 from sending"),
            *("Refused", "Errors", "Requests", "Generator's lag p99", "Valid"),
        ],
        rows=rows,
        note="p99 from sending is what a generator sees that waits for the server before it sends: "
        "it hides the queue. A probe is void where the generator itself was late by more than "
        "1 ms; a p99 takes 1,000 requests.",
        is_detail=True,
    )
