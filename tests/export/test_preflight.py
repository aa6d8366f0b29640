from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from export.preflight import ExportError, check_exportable, table_bytes
from pipeline.run_folder import Run
from tests.export.tiny import make_arrays, make_config


def gru_settings(**changes: Any) -> dict[str, Any]:
    return {
        "units": 6,
        "activation": "tanh",
        "recurrent_activation": "sigmoid",
        "use_bias": True,
        "reset_after": True,
        "go_backwards": False,
        "stateful": False,
        "return_sequences": True,
        **changes,
    }


def make_layer(kind: str, name: str, **settings: Any) -> Any:
    """A layer as preflight sees it: a class name, a name, a config."""
    layer = type(kind, (), {})()
    layer.name = name
    layer.get_config = lambda: settings
    return layer


def make_layers(**gru: Any) -> list[Any]:
    backward = gru_settings(go_backwards=True)
    return [
        make_layer("InputLayer", "tokens"),
        make_layer("Embedding", "embedding", mask_zero=True),
        make_layer("NotEqual", "not_equal"),
        make_layer("SpatialDropout1D", "embedding_dropout"),
        make_layer(
            "Bidirectional",
            "bigru_0",
            merge_mode="concat",
            layer={"config": gru_settings(**gru)},
            backward_layer={"config": backward},
        ),
        make_layer("MaskedPooling", "pooling", mode="max"),
        make_layer("ReLU", "relu", max_value=None, negative_slope=0.0, threshold=0.0),
        make_layer("Dropout", "head_dropout"),
        make_layer("Dense", "head", activation="softmax", use_bias=True),
    ]


def find_problems(
    run: Run, layers: list[Any] | None = None, arrays: Any = None, **options: Any
) -> tuple[str, ...]:
    """Return the problems of a run with these layers and weights; none when exportable."""
    model: Any = SimpleNamespace(layers=make_layers() if layers is None else layers)
    arrays = make_arrays(run.model) if arrays is None else arrays
    try:
        check_exportable(run, model, arrays, **options)
    except ExportError as err:
        return err.problems
    return ()


def test_a_model_as_the_pipeline_builds_it_is_exportable(hollow_run: Run) -> None:
    assert find_problems(hollow_run) == ()


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        ("activation", "relu", "'tanh'"),
        ("recurrent_activation", "hard_sigmoid", "'sigmoid'"),
        ("reset_after", False, "True"),
        ("use_bias", False, "True"),
        ("stateful", True, "False"),
        ("units", 7, "6"),
        ("return_sequences", False, "True"),
    ],
)
def test_gru_settings_that_change_the_arithmetic_are_refused(
    hollow_run: Run, setting: str, value: object, expected: str
) -> None:
    assert find_problems(hollow_run, make_layers(**{setting: value})) == (
        f"layer bigru_0: expected {setting} {expected}, found {value!r}.",
    )


def test_recurrent_dropout_is_irrelevant(hollow_run: Run) -> None:
    assert find_problems(hollow_run, make_layers(recurrent_dropout=0.3)) == ()


def test_the_backward_layer_is_checked_too(hollow_run: Run) -> None:
    layers = make_layers()
    config = layers[4].get_config()
    config["backward_layer"]["config"]["activation"] = "relu"
    assert find_problems(hollow_run, layers) == (
        "layer bigru_0 (backward): expected activation 'tanh', found 'relu'.",
    )


def test_another_merge_mode_is_refused(hollow_run: Run) -> None:
    layers = make_layers()
    layers[4].get_config()["merge_mode"] = "sum"
    assert find_problems(hollow_run, layers) == (
        "layer bigru_0: expected merge_mode 'concat', found 'sum'.",
    )


def test_unexpected_layers_are_named(hollow_run: Run) -> None:
    layers = [*make_layers(), make_layer("Dense", "extra")]
    assert find_problems(hollow_run, layers) == (
        "layers: expected embedding, bigru_0, pooling, relu, head (from run.json), found "
        "embedding, bigru_0, pooling, relu, head, extra.",
    )


@pytest.mark.parametrize(
    ("name", "setting", "value", "problem"),
    [
        ("embedding", "mask_zero", False, "expected mask_zero True, found False"),
        ("pooling", "mode", "mean", "expected mode 'max', found 'mean'"),
        ("relu", "max_value", 6.0, r"expected a plain ReLU, found {'max_value': 6.0}"),
        ("head", "activation", "linear", "activation 'linear', use_bias True"),
        ("head", "use_bias", False, "activation 'softmax', use_bias False"),
    ],
)
def test_other_layers_settings_are_checked(
    hollow_run: Run, name: str, setting: str, value: object, problem: str
) -> None:
    layers = make_layers()
    next(layer for layer in layers if layer.name == name).get_config()[setting] = value
    (found,) = find_problems(hollow_run, layers)
    assert found.startswith(f"layer {name}: ")
    assert problem in found


def test_missing_misshapen_and_extra_weights_are_named(hollow_run: Run) -> None:
    arrays: dict[str, np.ndarray] = make_arrays(hollow_run.model)
    del arrays["head/bias"]
    arrays["head/kernel"] = arrays["head/kernel"].T
    arrays["extra/kernel"] = np.zeros(1, np.float32)
    assert find_problems(hollow_run, arrays=arrays) == (
        "weight head/kernel: expected shape (12, 5), found (5, 12).",
        "weight head/bias: expected shape (5,), found none.",
        "weights: expected none besides those of run.json, found extra/kernel.",
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_counted(hollow_run: Run, value: float) -> None:
    arrays = make_arrays(hollow_run.model)
    arrays["embedding/embeddings"][3, :2] = value
    assert find_problems(hollow_run, arrays=arrays) == (
        "weight embedding/embeddings: expected finite numbers, found 2 that are not.",
    )


def test_another_precision_is_refused(hollow_run: Run) -> None:
    arrays: dict[str, Any] = make_arrays(hollow_run.model)
    arrays["head/bias"] = arrays["head/bias"].astype(np.float16)
    assert find_problems(hollow_run, arrays=arrays) == (
        "weight head/bias: expected float32, found float16.",
    )


def test_table_size_counts_directions() -> None:
    assert table_bytes(make_config()) == 2 * 96 * 18 * 4
    assert table_bytes(make_config(bidirectional=False)) == 96 * 18 * 4


def test_tables_beyond_the_limit_are_refused(hollow_run: Run) -> None:
    run = replace(hollow_run, model=make_config(units=4096))
    problems = find_problems(run, arrays={}, max_table_mb=8)
    assert problems[0] == (
        "gate table: expected at most 8 MiB (--max-table-mb), found 9.0 MiB for 2 direction(s) x "
        "V=96 x 3H=12288."
    )


def test_labels_must_be_distinct_and_complete(hollow_run: Run) -> None:
    run = replace(hollow_run, labels=("a", "b", "a", "c"))
    assert find_problems(run) == (
        "labels.json: expected 5 labels, found 4.",
        "labels.json: expected distinct labels, found a repeated.",
    )


@pytest.mark.parametrize("max_tokens", [0, 65_537])
def test_text_length_must_be_in_range(hollow_run: Run, max_tokens: int) -> None:
    assert find_problems(replace(hollow_run, max_tokens=max_tokens)) == (
        f"run.json max_tokens: expected 1 to 65536, found {max_tokens}.",
    )


def test_tokenizer_must_have_a_row_for_each_piece(hollow_run: Run) -> None:
    run = replace(hollow_run, model=make_config(vocab_size=97))
    assert find_problems(run) == ("tokenizer.model: expected 97 pieces (V), found 96.",)


def test_tokenizer_ids_must_be_ours(hollow_run: Run, tmp_path: Path) -> None:
    import sentencepiece

    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["cat dog", "river stone"] * 20),
        model_prefix=str(tmp_path / "default"),
        vocab_size=24,
        model_type="bpe",
        minloglevel=2,
    )
    (tmp_path / "default.model").replace(hollow_run.tokenizer_path)
    run = replace(hollow_run, model=make_config(vocab_size=24))
    assert find_problems(run) == (
        "tokenizer.model: expected pad id 0 and unknown id 1, found -1 and 0.",
    )


def test_a_broken_tokenizer_is_refused(hollow_run: Run) -> None:
    hollow_run.tokenizer_path.write_bytes(b"broken")
    (problem,) = find_problems(hollow_run)
    assert "tokenizer.model: expected a SentencePiece model, found" in problem


def test_all_problems_come_in_one_error(hollow_run: Run) -> None:
    model: Any = SimpleNamespace(layers=make_layers(activation="relu", reset_after=False))
    arrays = make_arrays(hollow_run.model)
    del arrays["head/bias"]
    run = replace(hollow_run, labels=("a", "b", "a", "c"))
    with pytest.raises(ExportError, match=r"(?s)Run hollow in .* cannot be exported:.*Supported:"):
        check_exportable(run, model, arrays)
    try:
        check_exportable(run, model, arrays)
    except ExportError as err:
        assert len(err.problems) == 5
        assert all(problem in str(err) for problem in err.problems)
