"""`python -m pipeline baseline`: the figures to beat, on the same split."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from pipeline.baselines.store import BASELINE_NAMES, BaselineKind, BaselineResult
from pipeline.config import TrainConfig
from pipeline.data_options import data_options, prepare_data

if TYPE_CHECKING:
    from pipeline.baselines.fasttext_grid import GridPoint
    from pipeline.data_folder import PreparedData

_TRAIN = TrainConfig()


@click.command()
@data_options
@click.option(
    "--kind",
    type=click.Choice([*get_args(BaselineKind), "all"]),
    default="svm",
    show_default=True,
    help="A linear classifier on TF-IDF, or fastText (extra `fasttext`), the best of a small grid.",
)
@click.option(
    "--num-predict", default=_TRAIN.num_predict, show_default=True, help="k of top-k accuracy."
)
def baseline(kind: str, num_predict: int, **options: Any) -> None:
    """Train classic classifiers on the same split: the figures to beat.

    What was measured on a data folder is kept beside it, with the answers to every test text.

    Example: python -m pipeline baseline --kind all --source news.csv
    """
    from pipeline.baselines.fasttext_grid import check_fasttext
    from pipeline.baselines.store import check_k

    check_k(num_predict)
    kinds: list[BaselineKind] = [each for each in BASELINE_NAMES if kind in (each, "all")]
    if "fasttext" in kinds:
        check_fasttext()  # before any work is done
    console = Console()
    prepared = prepare_data(options, console)
    table = Table("", "validation top-1", f"top-{num_predict}", "test top-1", f"top-{num_predict}")
    for each in kinds:
        result = _measure(prepared, each, num_predict, console)
        table.add_row(
            BASELINE_NAMES[each],
            *(
                f"{100 * result.metrics[split][metric]:.2f} %"
                for split in ("validation", "test")
                for metric in ("top_1", f"top_{num_predict}")
            ),
        )
    console.print(table)


def _measure(
    prepared: PreparedData, kind: BaselineKind, k: int, console: Console
) -> BaselineResult:
    from pipeline.baselines.measure import NUM_TRAININGS, measure_baseline

    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        count = NUM_TRAININGS[kind]
        task = progress.add_task(BASELINE_NAMES[kind], total=count if count > 1 else None)

        def show(point: GridPoint) -> None:
            progress.advance(task)
            found = point.validation_top_1
            shown = "NaN" if found is None else f"{100 * found:.2f} %"
            console.print(
                f"{BASELINE_NAMES[kind]}  {_describe(point)}  validation top-1 {shown}",
                highlight=False,
                soft_wrap=True,
            )

        return measure_baseline(prepared, k=k, kind=kind, notify=show)


def _describe(point: GridPoint) -> str:
    settings = point.settings
    characters = f"{settings.minn}-{settings.maxn}" if settings.maxn else "none"
    return (
        f"dim {settings.dim}, {settings.epoch} epochs, lr {settings.lr:g}, up to "
        f"{settings.word_ngrams} words, characters {characters}"
    )
