"""`python -m pipeline train`: one model, from a table of text to a run folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
from rich.console import Console
from rich.table import Table

from pipeline.cache_command import cache_option, make_cache_config
from pipeline.cache_folder import CacheMode
from pipeline.config import (
    DEFAULT_EMBEDDING_INIT,
    DEFAULT_SHAPE,
    ClassWeights,
    DropoutKind,
    EmbeddingInit,
    JitCompile,
    ModelConfig,
    Monitor,
    RecurrentKind,
    TrainConfig,
)
from pipeline.data_options import build_root, data_options
from pipeline.distributed.cluster import StrategyKind, read_cluster
from pipeline.distributed.preparation import prepare_together
from pipeline.run_folder import (
    Run,
    RunError,
    check_run_name,
    describe_calibration,
    import_tensorflow,
    read_json,
)
from pipeline.service.command import service_options, take_service

if TYPE_CHECKING:
    from pipeline.data_folder import PreparedData

_TRAIN = TrainConfig()


@click.command()
@data_options
@click.option(
    "--embed-dim",
    default=DEFAULT_SHAPE["embed_dim"],
    show_default=True,
    help="Costs nothing when serving.",
)
@click.option(
    "--units",
    default=DEFAULT_SHAPE["units"],
    show_default=True,
    help="H, the state of one direction.",
)
@click.option("--layers", default=1, show_default=True)
@click.option("--bidirectional/--unidirectional", default=True, show_default=True)
@click.option(
    "--pooling", type=click.Choice(["last", "max", "mean"]), default="max", show_default=True
)
@click.option("--relu/--no-relu", default=True, show_default=True)
@click.option("--embedding-dropout", default=DEFAULT_SHAPE["embedding_dropout"], show_default=True)
@click.option("--head-dropout", default=DEFAULT_SHAPE["head_dropout"], show_default=True)
@click.option(
    "--embedding-dropout-kind",
    type=click.Choice(get_args(DropoutKind)),
    default="spatial",
    show_default=True,
    help="Drop columns of the embedding for a whole text, or each element by itself.",
)
@click.option(
    "--gru-dropout", default=0.0, show_default=True, help="Of each GRU's inputs. Keeps cuDNN."
)
@click.option(
    "--recurrent-dropout", default=0.0, show_default=True, help="Of the states. Loses cuDNN."
)
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
@click.option(
    "--weight-averaging",
    default=_TRAIN.weight_averaging,
    show_default=True,
    help="Decay of a moving average of the weights, which is then validated and saved; 0.99 "
    "remembers some hundred steps.",
)
@click.option(
    "--class-weights",
    type=click.Choice(get_args(ClassWeights)),
    default=_TRAIN.class_weights,
    show_default=True,
    help="Let rare classes count more in the loss: as much as any other, or half way there.",
)
@click.option(
    "--embedding-init",
    type=click.Choice(get_args(EmbeddingInit)),
    help="What the embedding starts from: skip-gram vectors of the training split (seconds), or "
    f"--pretrained-embeddings. Default: {DEFAULT_EMBEDDING_INIT}, or file where one is given.",
)
@click.option(
    "--pretrained-embeddings",
    type=click.Path(),
    help="Vectors as text (word2vec, GloVe; .gz too) or .npy with .vocab, of --embed-dim numbers.",
)
@click.option(
    "--embedding-trainable/--embedding-frozen",
    default=_TRAIN.embedding_trainable,
    show_default=True,
)
@click.option(
    "--pretrain-epochs",
    default=_TRAIN.pretrain_epochs,
    show_default=True,
    help="First so many epochs as a language model of the training texts, which takes no labels.",
)
@click.option("--patience", default=_TRAIN.patience, show_default=True)
@click.option(
    "--monitor",
    type=click.Choice(get_args(Monitor)),
    default=_TRAIN.monitor,
    show_default=True,
    help="Validation metric that decides when to stop and which epoch is kept.",
)
@click.option(
    "--calibrate/--no-calibrate",
    default=_TRAIN.calibrate,
    show_default=True,
    help="Fit a temperature on the validation split and fold it into the saved model.",
)
@click.option(
    "--num-predict", default=_TRAIN.num_predict, show_default=True, help="k of top-k accuracy."
)
@click.option("--seed", default=_TRAIN.seed, show_default=True)
@click.option("--deterministic/--fast", default=_TRAIN.deterministic, show_default=True)
@click.option(
    "--jit-compile",
    type=click.Choice(get_args(JitCompile)),
    default=_TRAIN.jit_compile,
    show_default=True,
    help="XLA, which costs seconds a batch shape. auto: timed at the start of a long training.",
)
@click.option(
    "--cell",
    type=click.Choice(get_args(RecurrentKind)),
    default=_TRAIN.cell,
    show_default=True,
    help="auto: keras.layers.GRU (layer) on a GPU, our faster loop (hoisted) on a CPU. The saved "
    "model is the same.",
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
@click.option(
    "--strategy",
    type=click.Choice(get_args(StrategyKind)),
    default="auto",
    show_default=True,
    help="All GPUs of this machine (mirrored), or the processes that TF_CONFIG names "
    "(multi_worker): docs/scaling.md.",
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
    strategy: StrategyKind,
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
    options["pretrained_sha256"] = None  # by `train`
    if options["embedding_init"] is None:
        has_file = options["pretrained_embeddings"] is not None
        options["embedding_init"] = "file" if has_file else DEFAULT_EMBEDDING_INIT
    if hp is not None:
        options.update(_read_hyperparameters(hp, known=training_fields | shape_fields))
    training = TrainConfig(**{key: options.pop(key) for key in training_fields})
    shape = {key: options.pop(key) for key in shape_fields}
    # V and C come from the data; everything else is checked before any work is done.
    ModelConfig(vocab_size=3, num_classes=2, **shape)

    cluster = None if strategy in ("none", "mirrored") else read_cluster()
    console = Console(quiet=cluster is not None and not cluster.is_chief)
    prepared = prepare_together(options, console, cluster)
    import_tensorflow()
    from pipeline.distributed.replicas import start_replicas
    from pipeline.threads import share_threads
    from pipeline.train import train as train_run

    share_threads(2 if shape["bidirectional"] else 1)
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
        replicas=start_replicas(strategy, cluster),
        console=console,
    )
    if run is not None:
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
    """Print the accuracies of a run, beside the baselines that were measured."""
    from pipeline.baselines.store import BASELINE_NAMES, read_baseline

    k = run.training["num_predict"]
    table = Table("", "validation top-1", f"top-{k}", "test top-1", f"top-{k}")
    rows = [(run.name, run.metrics)]
    for kind, baseline_name in BASELINE_NAMES.items():
        baseline = read_baseline(prepared, k=k, kind=kind)
        if baseline is not None:
            rows.append((baseline_name, baseline.metrics))
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
    console.print(describe_calibration(run.calibration), highlight=False, soft_wrap=True)
    console.print(f"{run.folder}", highlight=False, soft_wrap=True)
