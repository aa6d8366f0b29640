"""`python -m pipeline import-cudnn`: weights of Keras 2 and CuDNNGRU become a run."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from pipeline.data_options import build_root
from pipeline.run_folder import check_run_name, import_tensorflow
from pipeline.tables.source import DataError, resolve_source
from pipeline.tables.table import read_rows

MAX_LABELS_BYTES = 2**24
MAX_TEXTS = 1_000_000


@click.command("import-cudnn")
@click.argument("weights", type=click.Path(path_type=Path))
@click.option(
    "--tokenizer",
    type=click.Path(path_type=Path),
    required=True,
    help="SentencePiece model whose ids the model was trained on; 0 pads, 1 is unknown.",
)
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    required=True,
    help="Names of the classes in the order of the outputs: a JSON list, or one a line.",
)
@click.option(
    "--texts",
    required=True,
    help="Held-out table of texts and labels (CSV, JSON Lines, ...): the accuracy is measured on "
    "it, and every export proves its agreement on it.",
)
@click.option("--text-column", default="title", show_default=True)
@click.option("--label-column", default="category", show_default=True)
@click.option(
    "--pooling",
    type=click.Choice(["last", "max", "mean"]),
    help="Where the file holds weights alone. Default: by the names of its layers.",
)
@click.option("--relu/--no-relu", default=None, help="As --pooling: a ReLU before the head.")
@click.option("--max-tokens", type=click.IntRange(1, 65_536), default=256, show_default=True)
@click.option(
    "--num-predict", type=click.IntRange(1), default=3, show_default=True, help="k of top-k."
)
@click.option("--name", help="Run name. Default: the weights file's and its hash.")
def import_cudnn(
    weights: Path,
    tokenizer: Path,
    labels: Path,
    texts: str,
    text_column: str,
    label_column: str,
    pooling: Any,
    relu: bool | None,
    max_tokens: int,
    num_predict: int,
    name: str | None,
) -> None:
    """Take over a model of Keras 2: WEIGHTS is what save_weights or save wrote as .h5.

    CuDNNGRU and GRU(reset_after=True), one direction or both, become a run under build/runs/ that
    exports like any other. A layout with other arithmetic is refused with the reason.

    CuDNNGRU knew no masks: a model that was trained on padded batches read the padding too. The
    imported run reads each text to its own end, so its accuracy is measured anew.

    \b
    Example:
      python -m pipeline import-cudnn old.h5 --tokenizer old.model --labels labels.txt \\
        --texts heldout.csv --pooling last --relu
    """  # noqa: D301  (click wants the character \b)
    from pipeline.legacy.architecture import interpret_weights
    from pipeline.legacy.weights_file import LegacyWeightsError, read_legacy_weights

    console = Console()
    try:
        legacy = interpret_weights(read_legacy_weights(weights), pooling=pooling, relu=relu)
    except LegacyWeightsError as err:
        raise DataError(str(err)) from err
    config = legacy.config
    names = _read_labels(labels, config.num_classes)
    _check_tokenizer(tokenizer, config.vocab_size)
    rows, label_ids = _read_texts(texts, text_column, label_column, names)
    fingerprint = hashlib.sha256(weights.read_bytes()).hexdigest()
    name = name or f"{weights.stem}-{fingerprint[:8]}"
    check_run_name(name)
    for assumption in legacy.assumptions:
        console.print(f"Assumed: {assumption}.", highlight=False, soft_wrap=True, markup=False)
    import_tensorflow()
    from pipeline.legacy.importer import import_run

    run = import_run(
        legacy,
        source=weights.name,
        fingerprint=fingerprint,
        runs=build_root() / "runs",
        name=name,
        tokenizer_path=tokenizer,
        labels=names,
        texts=rows,
        label_ids=label_ids,
        max_tokens=max_tokens,
        num_predict=min(num_predict, config.num_classes),
    )
    direction = "bidirectional" if config.bidirectional else "left to right"
    k = min(num_predict, config.num_classes)
    test = run.metrics["test"]
    console.print(
        f"{config.layers} x GRU({config.units}), {direction}, V={config.vocab_size}, "
        f"E={config.embed_dim}, C={config.num_classes}, pooling {config.pooling}"
        f"{', ReLU' if config.relu else ''}\n"
        f"top-1 {100 * test['top_1']:.2f} %, top-{k} {100 * test[f'top_{k}']:.2f} % on "
        f"{len(rows):,} texts\n{run.folder}\nNext: make export",
        highlight=False,
        soft_wrap=True,
        markup=False,
    )


def _read_labels(path: Path, num_classes: int) -> list[str]:
    try:
        size = path.stat().st_size
        if size > MAX_LABELS_BYTES:
            raise DataError(f"{path}: expected at most {MAX_LABELS_BYTES} bytes, found {size}.")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise DataError(f"{path}: expected a UTF-8 file of labels, found {err}.") from err
    try:
        names = json.loads(text) if text.lstrip().startswith("[") else text.splitlines()
    except (ValueError, RecursionError) as err:
        raise DataError(f"{path}: expected a JSON list of labels, found {err}.") from err
    if any(not isinstance(name, str) or not name.strip() for name in names):
        raise DataError(f"{path}: expected labels that are texts, found an empty or other one.")
    if len(names) != num_classes or len(set(names)) != len(names):
        raise DataError(
            f"{path}: expected {num_classes} different labels, one an output of the model, found "
            f"{len(names)}, {len(set(names))} of them different."
        )
    return list(names)


def _check_tokenizer(path: Path, vocab_size: int) -> None:
    from pipeline.tokenizer import load_processor

    processor = load_processor(path)
    found = (processor.get_piece_size(), processor.pad_id(), processor.unk_id())
    if found[0] != vocab_size:
        raise DataError(
            f"{path}: expected {vocab_size} pieces, the rows of the model's embedding, found "
            f"{found[0]}. It is not the tokenizer the model was trained with."
        )
    if found[1:] != (0, 1):
        raise DataError(
            f"{path}: expected pad id 0 and unknown id 1, found {found[1]} and {found[2]}. Every "
            "runtime here pads with 0 and reads an empty text as one 1."
        )


def _read_texts(
    pattern: str, text_column: str, label_column: str, labels: list[str]
) -> tuple[list[str], list[int]]:
    source = resolve_source(path=pattern)
    ids = {label: number for number, label in enumerate(labels)}
    texts: list[str] = []
    label_ids: list[int] = []
    for batch in read_rows(source, text_column=text_column, label_column=label_column):
        for row, text, label in zip(batch.rows, batch.texts, batch.labels, strict=True):
            if label not in ids:
                raise DataError(
                    f"{source} row {row}: expected one of the model's {len(labels)} labels, found "
                    f"{label[:60]!r}."
                )
            texts.append(text)
            label_ids.append(ids[label])
        if batch.rejects:
            first = batch.rejects[0]
            raise DataError(
                f"{source} row {first.row}: expected a text and a label, found {first.reason}: "
                f"{first.sample!r}. Held-out rows are used whole or not at all."
            )
        if len(texts) > MAX_TEXTS:
            raise DataError(f"{source}: expected at most {MAX_TEXTS} rows, found more.")
    if not texts:
        raise DataError(f"{source}: expected held-out texts, found none.")
    return texts, label_ids
