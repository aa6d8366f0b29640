"""Command line of the pipeline: `python -m pipeline data | train | tune | baseline | ...`.

Options beat environment variables; `.env` in the working directory is read for variables that are
not set. Heavy libraries are imported inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
from dotenv import load_dotenv
from rich.console import Console
from rich.table import Table

from pipeline.ablation.command import ablation
from pipeline.cache_command import cache_option, clean_cache, make_cache_config
from pipeline.cache_folder import CacheMode
from pipeline.config import ModelConfig, RecurrentKind, TrainConfig
from pipeline.cost_model import (
    CALIBRATION_FILE,
    CostModel,
    ServingBudget,
    median_tokens,
    read_cost_model,
)
from pipeline.cudnn_check import cudnn_check
from pipeline.data_options import build_root, data_options, prepare_data
from pipeline.legacy.command import import_cudnn
from pipeline.run_folder import Run, RunError, check_run_name, import_tensorflow, read_json
from pipeline.runs_command import runs_command
from pipeline.service.command import data_service_command, service_options, take_service
from pipeline.tables.source import DataError

if TYPE_CHECKING:
    from pipeline.data_folder import PreparedData

EXIT_BAD_INPUT = 2


class _Group(click.Group):
    """Turns the errors a user can cause into one line and exit code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (DataError, RunError, ValueError, OSError) as err:
            click.echo(f"error: {err}", err=True)
            ctx.exit(EXIT_BAD_INPUT)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Prepare a table of text and labels, and train GRU classifiers on it.

    \b
    The embedded dataset:     python -m pipeline train
    Your own CSV:             python -m pipeline train --source news.csv.gz --text-column headline
    Several files:            python -m pipeline train --source 'news/*.jsonl.gz'
    A CSV inside a ZIP:       ZIPFILE_NAME=news.zip FILE_NAME=news.csv python -m pipeline train
    Another place to write:   GATETABLE_BUILD=/data/gatetable python -m pipeline train
    """  # noqa: D301  (click's \b keeps the lines apart)
    load_dotenv(Path(".env"))


cli.add_command(ablation)
cli.add_command(clean_cache)
cli.add_command(cudnn_check)
cli.add_command(data_service_command)
cli.add_command(import_cudnn)
cli.add_command(runs_command)


_TRAIN = TrainConfig()


@cli.command()
@data_options
def data(**options: Any) -> None:
    """Clean, split and tokenise a table into build/data/<name>/, and describe it in a data card.

    Bad rows are counted and sampled into rejects.jsonl, never silently lost. The 8:1:1 split
    hashes the text itself: adding rows moves none, and no text is in two splits. A second call on
    the same file and options does nothing.

    Example: python -m pipeline data --source news.csv --label-column section
    """
    from pipeline.data_card.card import list_warnings

    console = Console()
    prepared = prepare_data(options, console)
    table = Table("split", "rows", title=f"{prepared.name}: {len(prepared.labels)} classes")
    for split in ("train", "validation", "test"):
        table.add_row(split, f"{getattr(prepared, split).count:,}")
    console.print(table)
    for line in [*list_warnings(prepared.folder), f"{prepared.folder}"]:
        console.print(line, highlight=False, soft_wrap=True, markup=False)


@cli.command()
@data_options
@click.option("--embed-dim", default=128, show_default=True, help="Costs nothing when serving.")
@click.option("--units", default=96, show_default=True, help="H, the state of one direction.")
@click.option("--layers", default=1, show_default=True)
@click.option("--bidirectional/--unidirectional", default=True, show_default=True)
@click.option(
    "--pooling", type=click.Choice(["last", "max", "mean"]), default="max", show_default=True
)
@click.option("--relu/--no-relu", default=True, show_default=True)
@click.option("--embedding-dropout", default=0.25, show_default=True)
@click.option("--head-dropout", default=0.5, show_default=True)
@click.option("--num-epochs", default=_TRAIN.num_epochs, show_default=True)
@click.option("--batch-size", default=_TRAIN.batch_size, show_default=True)
@click.option("--learning-rate", default=_TRAIN.learning_rate, show_default=True)
@click.option("--weight-decay", default=_TRAIN.weight_decay, show_default=True)
@click.option("--label-smoothing", default=_TRAIN.label_smoothing, show_default=True)
@click.option("--word-dropout", default=_TRAIN.word_dropout, show_default=True)
@click.option(
    "--subword-sampling",
    default=_TRAIN.subword_sampling,
    show_default=True,
    help="Probability that the tokenizer leaves out a merge while training (BPE-dropout).",
)
@click.option("--patience", default=_TRAIN.patience, show_default=True)
@click.option(
    "--num-predict", default=_TRAIN.num_predict, show_default=True, help="k of top-k accuracy."
)
@click.option("--seed", default=_TRAIN.seed, show_default=True)
@click.option("--deterministic/--fast", default=_TRAIN.deterministic, show_default=True)
@click.option(
    "--jit-compile/--no-jit-compile",
    default=_TRAIN.jit_compile,
    show_default=True,
    help="XLA. Pays on CPUs with AVX-512 and long trainings; costs seconds a batch shape.",
)
@click.option(
    "--cell",
    type=click.Choice(get_args(RecurrentKind)),
    default=_TRAIN.cell,
    show_default=True,
    help="keras.layers.GRU, or RNN(GRUCell) to compare; the saved model is the same.",
)
@cache_option
@service_options
@click.option(
    "--checkpoint-every",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    help="Seconds between two saved states within an epoch.",
)
@click.option("--hp", type=click.Path(path_type=Path), help="best.json of `tune`; beats options.")
@click.option("--name", help="Run name. Default: dataset and a hash of all settings.")
@click.option("--force", is_flag=True, help="Train again even if this run is finished.")
def train(
    name: str | None,
    force: bool,
    hp: Path | None,
    cache: CacheMode,
    checkpoint_every: float,
    **options: Any,
) -> None:
    """Prepare the data if need be, train, evaluate, and write build/runs/<run>/.

    Killed at any time, the same command goes on behind the last saved step; with --deterministic
    the weights are those of an unbroken training. A finished run is left alone.
    TensorBoard: tensorboard --logdir build/runs

    Example: python -m pipeline train --units 256 --num-epochs 12
    """
    training_fields = {field.name for field in dataclasses.fields(TrainConfig)}
    shape_fields = {field.name for field in dataclasses.fields(ModelConfig)}
    shape_fields -= {"vocab_size", "num_classes"}
    if name is not None:
        check_run_name(name)
    service = take_service(options)
    if hp is not None:
        options.update(_read_hyperparameters(hp, known=training_fields | shape_fields))
    training = TrainConfig(**{key: options.pop(key) for key in training_fields})
    shape = {key: options.pop(key) for key in shape_fields}
    # V and C come from the data; everything else is checked before any work is done.
    ModelConfig(vocab_size=3, num_classes=2, **shape)

    console = Console()
    prepared = prepare_data(options, console)
    import_tensorflow()
    from pipeline.train import train as train_run

    run = train_run(
        prepared,
        ModelConfig(vocab_size=prepared.vocab_size, num_classes=len(prepared.labels), **shape),
        training,
        build_root() / "runs",
        name=name,
        force=force,
        cache=make_cache_config(cache, prepared, console),
        service=service,
        save_every_s=checkpoint_every,
        console=console,
    )
    print_results(run, prepared, console)


def _read_hyperparameters(path: Path, *, known: set[str]) -> dict[str, Any]:
    try:
        values = read_json(path)
    except RunError as err:
        raise ValueError(
            f"{path}: expected the best.json that `make tune` wrote, found no such JSON file."
        ) from err
    if not isinstance(values, dict) or not set(values) <= set(known):
        raise ValueError(
            f"{path}: expected a JSON object with keys among {', '.join(sorted(known))}, "
            f"found {str(values)[:80]}. Write one with `make tune`."
        )
    return values


def print_results(run: Run, prepared: PreparedData, console: Console) -> None:
    """Print the accuracies of a run, beside the linear baseline where it was measured."""
    from pipeline.baseline import read_baseline

    k = run.training["num_predict"]
    table = Table("", "validation top-1", f"top-{k}", "test top-1", f"top-{k}")
    rows = [(run.name, run.metrics)]
    baseline = read_baseline(prepared, k=k)
    if baseline is not None:
        rows.append(("TF-IDF + linear SVM", baseline.metrics))
    for label, metrics in rows:
        table.add_row(
            label,
            *(
                f"{100 * metrics[split][metric]:.2f} %"
                for split in ("validation", "test")
                for metric in ("top_1", f"top_{k}")
            ),
        )
    console.print(table)
    console.print(f"{run.folder}", highlight=False, soft_wrap=True)


@cli.command()
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


@cli.command()
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


if __name__ == "__main__":
    cli(prog_name="python -m pipeline")
