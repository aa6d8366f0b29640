"""`python -m pipeline runs`: what runs there are, how good and how dear; how two of them differ."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from pipeline.config import describe_shape
from pipeline.data_options import build_root
from pipeline.run_folder import LATEST_FILE, Run, RunError, find_run, read_run

_MISSING = "-"


def list_runs(runs: Path) -> tuple[list[Run], list[str]]:
    """Return the finished runs, best on the test split first, and what is wrong with others."""
    found, faults = [], []
    for path in sorted(runs.glob("[!.]*/run.json")):
        try:
            found.append(read_run(path.parent))
        except RunError as err:
            faults.append(str(err))
    return sorted(found, key=lambda run: -_measure(run, "test", "top_1", -1.0)), faults


def describe_run(run: Run) -> dict[str, Any]:
    """Return a run's settings, results and costs as one flat object.

    Keys are dotted (`model.units`, `metrics.test.top_1`, `accounting.seconds.train`).
    """
    return _flatten(
        {
            "model": run.model.to_json(),
            "training": run.training,
            "data": run.data,
            "metrics": run.metrics,
            "accounting": run.accounting,
            "versions": run.versions,
            "seed": run.seed,
            "max_tokens": run.max_tokens,
        }
    )


@click.command("runs")
@click.argument("names", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Everything, one JSON object a line.")
def runs_command(names: tuple[str, ...], as_json: bool) -> None:
    """List the runs under build/runs/, best first; with NAMES, show where those differ.

    \b
    Example:
      python -m pipeline runs
      python -m pipeline runs wordnet31-48499694 wordnet31-89ccfd19
    """  # noqa: D301  (click wants the character \b)
    root = build_root() / "runs"
    console = Console()
    faults: list[str] = []
    if names:
        chosen = [read_run(find_run(root, name)) for name in names]
    else:
        chosen, faults = list_runs(root)
        if not chosen and not faults:
            raise RunError(f"{root}: no finished run yet. Train one with `make train`.")
    if as_json:
        for run in chosen:
            click.echo(json.dumps({"name": run.name, **describe_run(run)}, ensure_ascii=False))
    elif names:
        console.print(_make_comparison(chosen))
    else:
        console.print(_make_list(chosen, _read_latest(root)))
    for fault in faults:
        click.echo(f"not readable: {fault}", err=True)


def _read_latest(root: Path) -> str:
    try:
        return (root / LATEST_FILE).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _measure(run: Run, split: str, metric: str, default: float) -> float:
    return float(run.metrics.get(split, {}).get(metric, default))


def _format_share(value: float | None) -> str:
    return _MISSING if value is None else f"{100 * value:.2f} %"


def _make_list(runs: Sequence[Run], latest: str) -> Table:
    title = "Runs, best on the test split first; * is the newest"
    table = Table(title=title, title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0))
    for column in ("run", "model", "top-1", "top-k", "took", "rows/s", "peak"):
        is_text = column in ("run", "model")
        table.add_column(column, justify="left" if is_text else "right", no_wrap=column != "model")
    for run in runs:
        test = run.metrics.get("test", {})
        k = int(run.training.get("num_predict", 3))
        spent = run.accounting
        table.add_row(
            run.name + (" *" if run.name == latest else ""),
            describe_shape(run.model.to_json()),
            _format_share(test.get("top_1")),
            _format_share(test.get(f"top_{k}")),
            _format_duration(sum(spent["seconds"].values())) if spent else _MISSING,
            f"{spent['examples_per_s']:,.0f}" if spent else _MISSING,
            f"{spent['peak_bytes'] / 1e9:.2f} GB" if spent else _MISSING,
        )
    return table


def _format_duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d} min" if minutes else f"{rest} s"


def _make_comparison(runs: Sequence[Run]) -> Table:
    """One line for each value that is not the same in all of them."""
    title = "Where the runs differ"
    table = Table("", *(run.name for run in runs), title=title, title_justify="left", box=SIMPLE)
    described = [describe_run(run) for run in runs]
    keys = list(dict.fromkeys(key for values in described for key in values))
    for key in keys:
        values = [values.get(key) for values in described]
        if len(runs) == 1 or any(value != values[0] for value in values):
            table.add_row(key, *(_format_value(key, value) for value in values))
    return table


def _format_value(key: str, value: Any) -> str:
    if value is None:
        return _MISSING
    if key.startswith("metrics.") and ".top_" in key:
        return _format_share(value)
    return f"{value:,.6g}" if isinstance(value, float) else str(value)


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
