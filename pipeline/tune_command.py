"""`python -m pipeline tune`: a hyperparameter search, within a serving budget if one is set."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from rich.console import Console

from pipeline.cache_command import cache_option, make_cache_config
from pipeline.config import DEFAULT_EMBEDDING_INIT, TrainConfig
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
    from pipeline.search import SearchConfig, SearchResult

_TRAIN = TrainConfig()
CHIEF_VARIABLES = ("KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT")
"""KerasTuner's: who this process is, and where the chief is."""
_OPTIONS = (
    data_options,
    click.option(
        "--algorithm",
        type=click.Choice(["random", "hyperband", "bayesian"]),
        default="random",
        show_default=True,
    ),
    click.option("--max-trials", default=10, show_default=True, help="Hyperband derives its own."),
    click.option(
        "--max-minutes",
        type=click.FloatRange(min=0, min_open=True),
        help="Begin no trial that, by the median of the finished ones, would end later than so "
        "many minutes from now. The same command goes on another day.",
    ),
    click.option("--num-epochs", default=4, show_default=True, help="Epochs of one trial."),
    click.option("--batch-size", type=int, help="Of every trial. Default: searched too."),
    click.option(
        "--embedding-init",
        type=click.Choice(["random", "skip_gram"]),
        default=DEFAULT_EMBEDDING_INIT,
        show_default=True,
        help="What every trial's embedding starts from, as of `train`.",
    ),
    click.option("--seed", default=_TRAIN.seed, show_default=True),
    click.option(
        "--deterministic/--fast",
        default=_TRAIN.deterministic,
        show_default=True,
        help="The same search gives the same scores to the last bit, interrupted or not. Slower.",
    ),
    click.option(
        "--max-latency-us",
        type=click.FloatRange(min=0, min_open=True),
        help="Try no model whose predicted time for a text of median length, from lookup tables "
        "on this machine, is longer. Needs `make calibrate` once.",
    ),
    click.option(
        "--max-table-mb",
        type=click.FloatRange(min=0, min_open=True),
        help="Try no model whose gate tables would be larger.",
    ),
    click.option(
        "--calibration",
        type=click.Path(path_type=Path),
        help="Of the machine that will serve. Default: build/calibration.json.",
    ),
    cache_option,
    service_options,
    click.option(
        "--name", help="Folder under build/tuner/. Default: dataset and a hash of settings."
    ),
)


def tune_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that `take_search` reads."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@dataclass(frozen=True, kw_only=True)
class SearchRequest:
    """What the options ask for, the data prepared."""

    data: PreparedData
    training: TrainConfig
    tuners: Path
    config: SearchConfig


def take_search(options: dict[str, Any], console: Console) -> SearchRequest:
    """Return what the options of `tune_options` ask for; imports TensorFlow.

    Raises:
        ValueError: An option is out of range.
        CalibrationError: A time is asked for and the calibration is missing or damaged.
        DataError: The table cannot be prepared.
    """
    batch_size = options.pop("batch_size")
    training = TrainConfig(
        num_epochs=options.pop("num_epochs"),
        batch_size=_TRAIN.batch_size if batch_size is None else batch_size,
        embedding_init=options.pop("embedding_init"),
        seed=options.pop("seed"),
        deterministic=options.pop("deterministic"),
    )
    service = take_service(options)
    max_latency_us = options.pop("max_latency_us")
    max_table_mb = options.pop("max_table_mb")
    cost_model = _read_cost_model(options.pop("calibration"), is_needed=max_latency_us is not None)
    cache = options.pop("cache")
    settings = {key: options.pop(key) for key in ("algorithm", "max_trials", "max_minutes", "name")}
    if settings["max_trials"] < 1:
        raise ValueError(f"max_trials: expected at least 1, found {settings['max_trials']}.")
    prepared = prepare_data(options, console)
    budget = ServingBudget(
        max_latency_us=max_latency_us,
        max_table_mb=max_table_mb,
        tokens=_measure_median_tokens(prepared),
        cost_model=cost_model,
    )
    import_tensorflow()
    from pipeline.search import SearchConfig

    config = SearchConfig(
        cache=make_cache_config(cache, prepared, console),
        service=service,
        budget=budget,
        draws_batch_size=batch_size is None,
        **settings,
    )
    return SearchRequest(
        data=prepared, training=training, tuners=build_root() / "tuner", config=config
    )


@click.command()
@tune_options
@click.pass_context
def tune(context: click.Context, **options: Any) -> None:
    """Search hyperparameters with KerasTuner; `train --hp` takes the best.json it writes.

    Killed at any time, the same command goes on: finished trials are kept, the one under way is
    run again with the same values and seed, and a larger --max-trials extends a finished search.
    With --max-latency-us or --max-table-mb only models are tried that can be served within them;
    pareto.svg shows accuracy against cost.

    Several processes of this machine: `tune-workers`. Several machines: set KERASTUNER_TUNER_ID
    (chief, worker1, ...), KERASTUNER_ORACLE_IP and KERASTUNER_ORACLE_PORT on each and call the
    same command, on a GATETABLE_BUILD that all of them share.

    Example: python -m pipeline tune --algorithm bayesian --max-trials 20 --max-latency-us 25
    """
    role = _read_role()
    console = Console()
    request = take_search(options, console)
    searched = (request.data, request.training, request.tuners, request.config)
    if role == "worker":
        from pipeline.search import search_as_worker
        from pipeline.tune_progress import Silence

        search_as_worker(*searched, Silence())
        console.print(f"{os.environ['KERASTUNER_TUNER_ID']}: the chief has no trial left.")
        return
    if role == "chief":
        from pipeline.tune_workers import serve_search

        address = ":".join(os.environ[name] for name in CHIEF_VARIABLES[1:])
        result = serve_search(*searched, address=address, console=console)
    else:
        from pipeline.search import search

        result = search(*searched, console=console)
    print_search(result, context, console)


def _read_role() -> str:
    """Who this process is in a search on several machines: `chief`, `worker`, or `alone`."""
    given = [name for name in CHIEF_VARIABLES if os.environ.get(name)]
    if not given:
        return "alone"
    if len(given) < len(CHIEF_VARIABLES):
        raise ValueError(
            f"environment: expected {', '.join(CHIEF_VARIABLES)} together, found only "
            f"{' and '.join(given)}. Set all of them, or none to search alone."
        )
    return "chief" if "chief" in os.environ[CHIEF_VARIABLES[0]] else "worker"


def print_search(result: SearchResult, context: click.Context, console: Console) -> None:
    """Print what a search found, and the command that trains it."""
    from pipeline.trials import (
        LATENCY_GOALS_US,
        find_best_within,
        make_failure_table,
        make_table,
    )

    best = result.trials[0]
    console.print(make_table(result.trials))
    if result.failed:
        console.print(make_failure_table(result.failed))
    train = " ".join(["python -m pipeline train", *_list_data_arguments(context), "--hp"])
    lines = [] if result.stop_reason is None else [f"Ended early: {result.stop_reason}."]
    lines.append(f"Best of {len(result.trials)} trials: validation top-1 {best.score:.4f}")
    lines.append(f"Train it in full: {train} {result.best_path}")
    for goal_us in LATENCY_GOALS_US:
        within = find_best_within(result.trials, goal_us)
        if within is not None and within != best:
            lines.append(
                f"Best under {goal_us} us: validation top-1 {within.score:.4f} in "
                f"{within.predicted}: --hp {result.best_within_path(goal_us)}"
            )
    console.print("\n".join(lines), highlight=False, soft_wrap=True, markup=False)


def _list_data_arguments(context: click.Context) -> list[str]:
    """The options given on the command line that say which data, as a shell takes them."""

    @data_options
    def takes_data() -> None: ...

    names = {option.name for option in takes_data.__click_params__}
    arguments = []
    for option in context.command.params:
        is_given = (
            option.name is not None
            and context.get_parameter_source(option.name) == ParameterSource.COMMANDLINE
        )
        if option.name in names and is_given:
            value = context.params[option.name]
            for each in value if isinstance(value, (list, tuple)) else [value]:
                arguments += [option.opts[0], shlex.quote(str(each))]
    return arguments


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
