"""`python -m pipeline baseline`: the linear model to beat, on the same split."""

from __future__ import annotations

from typing import Any

import click
from rich.console import Console

from pipeline.config import TrainConfig
from pipeline.data_options import data_options, prepare_data

_TRAIN = TrainConfig()


@click.command()
@data_options
@click.option("--num-predict", default=_TRAIN.num_predict, show_default=True)
def baseline(num_predict: int, **options: Any) -> None:
    """Train TF-IDF + linear SVM on the same split: the figure to beat.

    Example: python -m pipeline baseline --source news.csv
    """
    from pipeline.baseline import measure_baseline

    console = Console()
    prepared = prepare_data(options, console)
    result = measure_baseline(prepared, k=num_predict)
    for split, metrics in result.metrics.items():
        console.print(
            f"TF-IDF + linear SVM  {split:<10}  top-1 {100 * metrics['top_1']:.2f} %  "
            f"top-{num_predict} {100 * metrics[f'top_{num_predict}']:.2f} %",
            highlight=False,
            soft_wrap=True,
        )
