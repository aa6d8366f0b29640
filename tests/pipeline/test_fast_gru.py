"""Our GRU layer against the stock one: outputs, every gradient, weights and their names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.slow

TOLERANCE = 1e-5
EMBED, UNITS = 5, 4


def build(kind: str, *, layers: int = 1, bidirectional: bool = False, **settings: Any) -> Any:
    """Build GRU layers of `kind` over (B, T, E) inputs and a mask, with biases that matter."""
    import keras

    from pipeline.fast_gru import FastGRU

    layer = {"stock": keras.layers.GRU, "fast": FastGRU}[kind]
    inputs = keras.Input((None, EMBED))
    mask = keras.Input((None,), dtype="bool")
    x = inputs
    for index in range(layers):
        last = {"return_sequences": True} if index < layers - 1 else {}
        gru = layer(UNITS, name=f"gru_{index}", **{**settings, **last})
        x = (keras.layers.Bidirectional(gru, name=f"bi_{index}") if bidirectional else gru)(
            x, mask=mask if settings.get("is_masked", True) else None
        )
    return keras.Model([inputs, mask], x)


def draw(lengths: list[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw inputs (B, T, E) and a mask (B, T) of rows of these lengths, padded on the right."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(len(lengths), max(lengths), EMBED)).astype("float32")
    return inputs, np.arange(max(lengths)) < np.array(lengths)[:, np.newaxis]


def run(model: Any, weights: list[np.ndarray], inputs: np.ndarray, mask: np.ndarray) -> Any:
    """Return output and the gradients of a weighted sum of it: of the inputs, then of weights."""
    import tensorflow as tf

    model.set_weights(weights)
    watched = tf.constant(inputs)
    with tf.GradientTape() as tape:
        tape.watch(watched)
        outputs = model([watched, tf.constant(mask)], training=True)
        # Other weights at each place, or errors of unlike sign could cancel.
        factors = np.random.default_rng(9).normal(size=outputs.shape).astype("float32")
        loss = tf.reduce_sum(outputs * factors)
    found = tape.gradient(loss, [watched, *(weight.value for weight in model.trainable_weights)])
    return [outputs.numpy(), *(gradient.numpy() for gradient in found)]


def compare(lengths: list[int], **settings: Any) -> None:
    stock, fast = build("stock", **settings), build("fast", **settings)
    names = [[weight.path for weight in model.weights] for model in (stock, fast)]
    assert names[0] == names[1]
    rng = np.random.default_rng(1)
    weights = [rng.normal(size=each.shape).astype("float32") * 0.5 for each in stock.get_weights()]
    inputs, mask = draw(lengths)
    for expected, found, name in zip(
        run(stock, weights, inputs, mask),
        run(fast, weights, inputs, mask),
        ["output", "inputs", *names[0]],
        strict=True,
    ):
        scale = max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * scale, err_msg=name)


@pytest.mark.parametrize("return_sequences", [True, False])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("lengths", [[7, 3, 1, 6, 7], [1], [1, 1, 1], [9]], ids=str)
def test_output_and_gradients_are_the_stock_layers(
    lengths: list[int], bidirectional: bool, return_sequences: bool
) -> None:
    compare(lengths, bidirectional=bidirectional, return_sequences=return_sequences)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_stacked_layers_have_the_stock_layers_gradients(bidirectional: bool) -> None:
    compare([6, 2, 5], layers=3, bidirectional=bidirectional, return_sequences=True)


@pytest.mark.parametrize("settings", [{"go_backwards": True}, {"zero_output_for_mask": True}])
def test_settings_of_the_output_are_honoured(settings: dict[str, Any]) -> None:
    compare([6, 2, 5], return_sequences=True, **settings)


def test_random_lengths_agree_inside_a_graph_of_unknown_shape() -> None:
    import tensorflow as tf

    stock, fast = build("stock", bidirectional=True), build("fast", bidirectional=True)
    fast.set_weights(stock.get_weights())
    specs = [tf.TensorSpec((None, None, EMBED)), tf.TensorSpec((None, None), tf.bool)]
    call = tf.function(lambda inputs, mask: fast([inputs, mask]), input_signature=specs)
    rng = np.random.default_rng(4)
    for seed in range(5):
        inputs, mask = draw(rng.integers(1, 20, size=rng.integers(1, 9)).tolist(), seed)
        expected = stock([inputs, mask]).numpy()
        np.testing.assert_allclose(call(inputs, mask), expected, rtol=0, atol=TOLERANCE)


def test_a_start_that_is_not_zero_is_used_and_differentiated() -> None:
    import keras
    import tensorflow as tf

    from pipeline.fast_gru import FastGRU

    inputs, _ = draw([4, 4])
    start = np.random.default_rng(2).normal(size=(2, UNITS)).astype("float32")
    found = []
    for layer in (keras.layers.GRU(UNITS), FastGRU(UNITS)):
        layer.build(inputs.shape)
        rng = np.random.default_rng(3)
        layer.set_weights([rng.normal(size=each.shape) for each in layer.get_weights()])
        watched = tf.constant(start)
        with tf.GradientTape() as tape:
            tape.watch(watched)
            output = layer(inputs, initial_state=watched)
        found.append((output.numpy(), tape.gradient(output, watched).numpy()))
    for expected, ours in zip(*found, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=0, atol=TOLERANCE)


def test_dropout_of_inputs_is_one_mask_a_text_and_scales_what_it_keeps() -> None:
    import keras

    from pipeline.fast_gru import FastGRU

    inputs, mask = draw([6, 2, 5])
    found = []
    for kind in (keras.layers.GRU, FastGRU):
        keras.utils.set_random_seed(3)
        layer = kind(UNITS, dropout=0.5, return_sequences=True, seed=7)
        layer.build(inputs.shape)
        rng = np.random.default_rng(3)
        layer.set_weights([rng.normal(size=each.shape) for each in layer.get_weights()])
        found.append(layer(inputs, mask=mask, training=True).numpy())
        assert np.abs(found[-1] - layer(inputs, mask=mask).numpy()).max() > 0.01
    np.testing.assert_allclose(found[1], found[0], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    "settings",
    [
        {"recurrent_dropout": 0.2},
        {"activation": "relu"},
        {"recurrent_activation": "hard_sigmoid"},
        {"reset_after": False},
        {"use_bias": False},
        {"unroll": True},
        {"dtype": "mixed_bfloat16"},
    ],
    ids=str,
)
def test_other_equations_are_left_to_the_stock_layer(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline import fast_gru

    assert fast_gru.FastGRU(UNITS).is_fast
    monkeypatch.setattr(fast_gru, "run_recurrence", None)  # whoever calls it fails
    layer = fast_gru.FastGRU(UNITS, **settings)
    assert not layer.is_fast
    assert layer(draw([3, 3])[0]).shape == (2, UNITS)


def test_xla_compiles_the_layer_and_its_gradient() -> None:
    import tensorflow as tf

    model = build("fast", bidirectional=True, return_sequences=True)
    inputs, mask = draw([6, 2, 5])

    def differentiate() -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model([inputs, mask]) ** 2)
        return tape.gradient(loss, [weight.value for weight in model.trainable_weights])

    compiled = tf.function(differentiate, jit_compile=True)()
    for expected, found in zip(differentiate(), compiled, strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
