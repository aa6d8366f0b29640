"""`python -m serving_compare load URL`: the generator for anybody's server."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from serving_compare.command_line import CHECK_FAILED, exit_codes
from serving_compare.load.arrivals import Phase
from serving_compare.load.capacity import MAX_LAG_NS, is_void
from serving_compare.load.errors import LoadError
from serving_compare.load.generator import Limits
from serving_compare.load.recording import Recording
from serving_compare.load.request import JSON_TYPE, Target, format_body, format_request, read_url
from serving_compare.load.run import LoadJob, run_load
from serving_compare.statistics import quantile

PERCENTILES = (50.0, 90.0, 99.0, 99.9)
MIN_ABOVE = 10
"""A percentile is told if at least so many requests lie above it."""
MAX_TEXTS_BYTES = 2**26
EXAMPLES = (
    "a small domesticated feline",
    "the act of moving from one place to another",
    "an instrument for measuring the height of a place above the level of the sea",
    "without hope",
    "a person who makes or repairs shoes",
    "large edible fruit with a hard rind",
    "cause to come together",
    "the quality of being easily understood",
)
"""What is asked where no text is given."""


@click.command()
@click.argument("url")
@click.option("--rate", type=click.FloatRange(0.1, 1e6), help="Requests a second, open loop.")
@click.option("--concurrency", type=click.IntRange(1, 10_000), help="Closed loop instead.")
@click.option("--duration", type=click.FloatRange(0.1, 86_400), default=10.0, show_default=True)
@click.option("--text", "single", help="What to ask; default: a few built-in texts in turn.")
@click.option("--texts", type=click.Path(path_type=Path), help="A text a line, asked in turn.")
@click.option("--batch", type=click.IntRange(1, 10_000), default=1, help="Texts in a request.")
@click.option("--k", type=click.IntRange(1), default=3, show_default=True, help="Labels wanted.")
@click.option("--body", type=click.Path(path_type=Path), help="Sent as it is, to any path.")
@click.option("--content-type", default=JSON_TYPE, show_default=True, help="Of --body.")
@click.option("--get", is_flag=True, help="Send GET requests without a body.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=1, show_default=True)
@click.option("--connections", type=click.IntRange(1, 10_000), default=64, show_default=True)
@click.option("--max-connections", type=click.IntRange(1, 10_000), default=1024, show_default=True)
@click.option("--timeout", type=click.FloatRange(0.01, 600), default=5.0, show_default=True)
@click.option("--core", type=click.IntRange(0), help="Pin the generator to this core.")
@click.option(
    "--max-error-rate",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Share of requests that may have no 2xx answer.",
)
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the figures here.")
def load(
    url: str,
    rate: float | None,
    concurrency: int | None,
    duration: float,
    single: str | None,
    texts: Path | None,
    batch: int,
    k: int,
    body: Path | None,
    content_type: str,
    get: bool,
    seed: int,
    connections: int,
    max_connections: int,
    timeout: float,
    core: int | None,
    max_error_rate: float,
    output: Path | None,
) -> None:
    """Load a server: ours (:predict), any that speaks the Open Inference Protocol (/infer), or
    any other with --body or --get.

    With --rate requests are sent when they are due, whatever is outstanding, and latency counts
    from then. Exit code 1: too many requests failed, or the generator itself was late.

    \b
    Example:
      python -m serving_compare load http://127.0.0.1:8000/v1/models/wordnet31:predict --rate 500
    """  # noqa: D205, D301  (click wants the character \b, not the two letters)
    with exit_codes():
        if (rate is None) == (concurrency is None):
            raise click.UsageError("expected either --rate or --concurrency.")
        if sum(option is not None for option in (single, texts, body)) + get > 1:
            raise click.UsageError("expected at most one of --text, --texts, --body and --get.")
        target = read_url(url)
        if get:
            requests = [format_request(target, None)]
        elif body is not None:
            requests = [format_request(target, body.read_bytes(), content_type=content_type)]
        else:
            asked = [single] if single is not None else read_lines(texts) if texts else EXAMPLES
            requests = format_batches(target, asked, batch=batch, k=k)
        limits = Limits(
            connections=min(connections, max_connections),
            max_connections=max_connections,
            timeout_s=timeout,
        )
        if concurrency is not None:
            limits = limits._replace(connections=concurrency, max_connections=concurrency)
        if core is not None and hasattr(os, "sched_getaffinity"):
            allowed = sorted(os.sched_getaffinity(0))
            if core not in allowed:
                raise LoadError(f"--core: expected one of {allowed}, found {core}.")
        recording = run_load(
            LoadJob(
                target=target,
                requests=requests,
                phases=[] if rate is None else [Phase(rate, duration)],
                duration_s=0.0 if concurrency is None else duration,
                limits=limits,
                seed=seed,
            ),
            core=core,
        )
        figures = {"url": target.url, "rate_per_s": rate, **describe_load(recording)}
        print_load(Console(), figures)
        if output is not None:
            output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    problems = list_problems(figures, max_error_rate=max_error_rate)
    for problem in problems:
        click.echo(f"failed: {problem}", err=True)
    sys.exit(CHECK_FAILED if problems else 0)


def read_lines(path: Path) -> list[str]:
    """Return the texts of a file, one a line; of a .jsonl file the `text` of each line.

    Raises:
        LoadError: There are none, or the file cannot be read as such.
    """
    try:
        size = path.stat().st_size
        if size > MAX_TEXTS_BYTES:
            raise LoadError(f"{path}: expected at most {MAX_TEXTS_BYTES} bytes, found {size}.")
        lines = [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
        texts = [json.loads(line)["text"] for line in lines] if path.suffix == ".jsonl" else lines
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("a text that is no string")
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise LoadError(f"{path}: expected a text a line in UTF-8, found {err!r}.") from err
    if not texts:
        raise LoadError(f"{path}: expected at least one text, found none.")
    return texts


def format_batches(target: Target, texts: Sequence[str], *, batch: int, k: int) -> list[bytes]:
    """Return requests of `batch` texts each that together ask every text, from the first again."""
    count = -(-len(texts) // batch)
    asked = [texts[number % len(texts)] for number in range(count * batch)]
    return [
        format_request(target, format_body(target, asked[start : start + batch], k=k))
        for start in range(0, len(asked), batch)
    ]


def describe_load(recording: Recording) -> dict[str, Any]:
    """Return the figures of a load as JSON values; latencies in µs, of 2xx answers only."""
    ok = recording.is_ok
    seconds = max(int(recording.last_ns.max()), 1) / 1e9
    return {
        "requests": len(recording),
        "achieved_per_s": float(f"{int(ok.sum()) / seconds:.6g}"),
        "latency_us": _percentiles(recording.latency_ns[ok]),
        "service_us": _percentiles(recording.service_ns[ok]),
        "lag_us": _percentiles(recording.lag_ns, min_above=0),
        "statuses": recording.count_statuses(),
        "failed_share": float(1 - ok.mean()),
        "waited": recording.waited,
        "connections": len(set(recording.connection.tolist())),
        "valid": not is_void(recording),
    }


def list_problems(figures: dict[str, Any], *, max_error_rate: float) -> list[str]:
    """Return what was expected of a load and is not so, in sentences."""
    problems = []
    if figures["failed_share"] > max_error_rate:
        problems.append(
            f"answers: expected at most {max_error_rate:.2%} of the requests without a 2xx answer, "
            f"found {figures['failed_share']:.2%}. See the statuses above."
        )
    if not figures["valid"]:
        problems.append(
            f"generator: expected it at most {MAX_LAG_NS // 1000} µs late in 99 % of the requests, "
            f"found {figures['lag_us']['p99']:,.0f}: the figures are void. Give it a core of its "
            "own with --core, or ask for less."
        )
    return problems


def print_load(console: Console, figures: dict[str, Any]) -> None:
    """Print the figures as a table and two lines."""
    table = Table(title=figures["url"])
    table.add_column("µs")
    names = [*(f"p{share:g}" for share in PERCENTILES), "max"]
    for name in names:
        table.add_column(name, justify="right")
    for row, key in (
        ("latency, from when it was due", "latency_us"),
        ("service, from when it was sent", "service_us"),
        ("lag of the generator", "lag_us"),
    ):
        values = [figures[key][name] for name in names]
        table.add_row(row, *("n/a" if value is None else f"{value:,.0f}" for value in values))
    console.print(table)
    wanted = "" if figures["rate_per_s"] is None else f" of {figures['rate_per_s']:,.1f} wanted"
    statuses = ", ".join(f"{name}: {count:,}" for name, count in figures["statuses"].items())
    console.print(
        f"{figures['requests']:,} requests, {figures['achieved_per_s']:,.1f} answers a second"
        f"{wanted}, {figures['connections']:,} connections, {figures['waited']:,} requests waited "
        f"for a free one. {statuses}",
        highlight=False,
        soft_wrap=True,
    )


def _percentiles(values_ns: Any, *, min_above: int = MIN_ABOVE) -> dict[str, float | None]:
    """p50 and so on in µs; null where fewer than `min_above` values lie above, the median apart."""
    found: dict[str, float | None] = {}
    for share in PERCENTILES:
        is_enough = len(values_ns) * (1 - share / 100) >= min_above - 1e-6
        is_told = len(values_ns) and (is_enough or share == PERCENTILES[0])
        found[f"p{share:g}"] = quantile(values_ns, share / 100) / 1000 if is_told else None
    found["max"] = int(values_ns.max()) / 1000 if len(values_ns) else None
    return found
