"""`python -m pipeline tune`: a hyperparameter search, within a serving budget if one is set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from pipeline.cache_command import cache_option, make_cache_config
from pipeline.cache_folder import CacheMode
from pipeline.config import TrainConfig
from pipeline.cost_model import (
    CALIBRATION_FILE,
    CostModel,
    ServingBudget,
    median_tokens,
    read_cost_model,
)
from pipeline.data_options import build_root, data_options, prepare_data
from pipeline.run_folder import import_tensorflow
from pipeline.service.command import service_options, take_service

if TYPE_CHECKING:
    from pipeline.data_folder import PreparedData

_TRAIN = TrainConfig()


@click.command()
@data_options
@click.option(
    "--algorithm",
    type=click.Choice(["random", "hyperband", "bayesian"]),
    default="random",
    show_default=True,
)
@click.option("--max-trials", default=10, show_default=True, help="Hyperband derives its own.")
@click.option("--num-epochs", default=4, show_default=True, help="Epochs of one trial.")
@click.option("--batch-size", type=int, help="Of every trial. Default: searched too.")
@click.option("--seed", default=_TRAIN.seed, show_default=True)
@click.option(
    "--max-latency-us",
    type=click.FloatRange(min=0, min_open=True),
    help="Try no model whose predicted time for a text of median length, from lookup tables on "
    "this machine, is longer. Needs `make calibrate` once.",
)
@click.option(
    "--max-table-mb",
    type=click.FloatRange(min=0, min_open=True),
    help="Try no model whose gate tables would be larger.",
)
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    help="Of the machine that will serve. Default: build/calibration.json.",
)
@cache_option
@service_options
@click.option("--name", help="Folder under build/tuner/. Default: dataset and a hash of settings.")
def tune(
    algorithm: str,
    max_trials: int,
    max_latency_us: float | None,
    max_table_mb: float | None,
    calibration: Path | None,
    cache: CacheMode,
    name: str | None,
    **options: Any,
) -> None:
    """Search hyperparameters with KerasTuner; `train --hp` takes the best.json it writes.

    Interrupted, the same command goes on; finished trials are kept, and a larger --max-trials
    extends a finished search. With --max-latency-us or --max-table-mb only models are tried that
    can be served within them; pareto.svg shows accuracy against cost.

    Example: python -m pipeline tune --algorithm bayesian --max-trials 20 --max-latency-us 25
    """
    batch_size = options.pop("batch_size")
    training = TrainConfig(
        num_epochs=options.pop("num_epochs"),
        batch_size=_TRAIN.batch_size if batch_size is None else batch_size,
        seed=options.pop("seed"),
    )
    service = take_service(options)
    console = Console()
    cost_model = _read_cost_model(calibration, is_needed=max_latency_us is not None)
    prepared = prepare_data(options, console)
    budget = ServingBudget(
        max_latency_us=max_latency_us,
        max_table_mb=max_table_mb,
        tokens=_measure_median_tokens(prepared),
        cost_model=cost_model,
    )
    import_tensorflow()
    from pipeline.search import search
    from pipeline.trials import make_table

    result = search(
        prepared,
        training,
        build_root() / "tuner",
        algorithm=algorithm,  # type: ignore[arg-type]  # click has checked the choice
        max_trials=max_trials,
        name=name,
        cache=make_cache_config(cache, prepared, console),
        service=service,
        budget=budget,
        draws_batch_size=batch_size is None,
        console=console,
    )
    best = result.trials[0]
    console.print(make_table(result.trials))
    console.print(
        f"Best of {len(result.trials)} trials: validation top-1 {best.score:.4f}\n"
        f"Train it in full: python -m pipeline train --hp {result.best_path}",
        highlight=False,
        soft_wrap=True,
    )


def _read_cost_model(path: Path | None, *, is_needed: bool) -> CostModel | None:
    """The machine's calibration; where nobody asks for a time, it may be missing."""
    found = path or build_root() / CALIBRATION_FILE
    if path is None and not is_needed and not found.is_file():
        return None
    return read_cost_model(found)


def _measure_median_tokens(prepared: PreparedData) -> int:
    from pipeline.tokenizer import encode_texts, load_processor

    texts, _ = prepared.validation.read_rows()
    processor = load_processor(prepared.tokenizer_path)
    return median_tokens([len(row) for row in encode_texts(processor, texts, prepared.max_tokens)])
