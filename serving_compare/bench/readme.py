"""What the README says of the kernel, from the committed bench.json: `docs/generate_readme.py`."""

from __future__ import annotations

from collections.abc import Iterator

from serving_compare.bench.bulk import PIECES
from serving_compare.bench.forms import EXACT_NATIVE, ONNX_FORMS
from serving_compare.bench.tables import NULL, Json, choose_exact, format_cell, list_forms
from serving_compare.text_table import Table, format_markdown_table


def format_readme_bench(bench: Json) -> str:
    """Return the README's part on the kernel: µs by tokens and sequences a second, first H only.

    Args:
        bench: Content of a bench.json.

    Returns:
        Markdown that ends in a newline.
    """
    machine = bench["machine"]
    parts = [
        "The kernel alone (`make bench`): median microseconds from ids to probabilities by tokens, "
        "warm, batch 1, and sequences a second in batches. Untrained models with H units, one "
        f"layer, one direction; one core of {machine['cpu']}, {bench['protocol']['processes']} "
        "processes.\n"
    ]
    units, model = next(iter(bench["models"].items()))
    parts.append(format_markdown_table(_make_readme_table(units, model)))
    parts += [f"{line}\n" for line in _list_readme_facts(bench)]
    return "\n".join(parts)


def _make_readme_table(units: str, model: Json) -> Table:
    """One row a form: the fastest exact native one and the fastest onnx one stand for theirs."""
    warm, bulk = model["warm"], model["bulk"]
    hidden = {NULL, *EXACT_NATIVE, *ONNX_FORMS} - {choose_exact(model)}
    rows = []
    for form in (*(form for form in list_forms(warm) if form not in hidden), "onnx"):
        cells = [row["forms"].get(row["best"].get(form) or form) for row in warm.values()]
        rates = [row["forms"].get(row["best"].get(form) or form) for row in bulk.values()]
        rows.append(
            [
                f"{form} (fastest way)" if form in PIECES else form,
                *(format_cell(cell) for cell in cells),
                *(f"{rate['sequences_per_s']:,.0f}" if rate else "" for rate in rates),
            ]
        )
    columns = [
        *(f"{size} token{'s'[: size != '1']}" for size in warm),
        *(f"batch {size}, 1/s" for size in bulk),
    ]
    return Table(title="", columns=[f"H={units}", *columns], rows=rows)


def _list_readme_facts(bench: Json) -> Iterator[str]:
    """What stands below the tables, a sentence each."""
    for units, model in bench["models"].items():
        step = model["steps"].get(model["float32"])
        if step is not None:
            yield (
                f"H={units}: a float32 step takes {step['step_ns']:.0f} ns, of which reading its "
                f"weights once and the gates explain {step['floor_share']['ratio']:.0%}."
            )
    if bench["text"] is not None:
        times = ", ".join(
            f"{form} {format_cell(cell)}" for form, cell in bench["text"]["forms"].items()
        )
        yield f"Raw text to its three best labels, microseconds: {times}."
    starts = (bench["cold_start"] or {}).get("text", {})
    times = ", ".join(
        f"{form} {found['total_ms']['median']:.0f} ms and "
        f"{found['beyond_null_bytes']['median'] / 1e6:.0f} MB"
        for form, found in starts.items()
        if form != NULL
    )
    if times:
        yield f"Process start to first answer, and memory beyond Python and NumPy: {times}."
    verdicts = [target["held"] for target in bench["targets"]]
    held, failed = verdicts.count("yes"), verdicts.count("no")
    yield (
        f"Of {len(verdicts)} promises of speed {held} hold on this machine, {failed} do not, and "
        f"{len(verdicts) - held - failed} could not be measured on it."
    )
