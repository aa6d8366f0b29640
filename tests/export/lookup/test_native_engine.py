from __future__ import annotations

import dataclasses
import itertools
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from export.lookup import native
from export.lookup.model import softmax
from export.lookup.native_engine import NativeEngine
from export.lookup.numpy_engine import NumpyEngine

pytestmark = pytest.mark.skipif(
    not native.is_available(), reason="the kernel is not built here: no C compiler"
)

TOLERANCE = 2e-6
"""float32 rounding through at most 2 layers of 12 steps, against float64."""
LONGEST = 12
ISAS = ("avx512vnni", "avx512", "avx2", "portable")
"""Every instruction set with a kernel, best first."""
FOUND = native.load_extension().list_isas() if native.is_available() else []


@pytest.fixture(params=FOUND)
def isa(request) -> str:
    return request.param


@pytest.mark.parametrize("name", ISAS)
def test_an_instruction_set_is_tested_wherever_it_exists(name):
    if name not in FOUND:
        pytest.skip(f"this machine has no {name}")
    assert list(ISAS[-len(FOUND) :]) == FOUND


SHAPES = [
    pytest.param(
        {"bidirectional": bidirectional, "layers": layers, "pooling": pooling, "relu": relu},
        id=f"{'bi' if bidirectional else 'uni'}-{layers}-{pooling}{'-relu' if relu else ''}",
    )
    for bidirectional, layers, pooling, relu in itertools.product(
        (False, True), (1, 2), ("last", "max", "mean"), (False, True)
    )
]


def make_batch(batch: int, vocab_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows in turn: one token, longest, all unknown, others; two columns of extra padding."""
    rng = np.random.default_rng(batch)
    lengths = rng.integers(1, LONGEST + 1, batch).astype(np.int32)
    ids = rng.integers(0, vocab_size, (batch, LONGEST + 2)).astype(np.int32)
    lengths[:3] = (1, LONGEST, 5)[:batch]
    ids[2:3] = 1
    return ids, lengths


@pytest.mark.parametrize("changes", SHAPES)
def test_every_instruction_set_equals_the_equations(
    raw_model, lookup_files, changes, isa, record_property
):
    model = raw_model(**changes)
    engine = NativeEngine(lookup_files(model.config, model.fold()), isa=isa)
    assert engine.isa == isa
    largest = 0.0
    for batch in (1, 2, 3, 8, 32):
        ids, lengths = make_batch(batch, model.config.vocab_size)
        found = softmax(engine.logits(ids, lengths))
        expected = [
            model.probabilities(row[:length])
            for row, length in zip(ids.tolist(), lengths.tolist(), strict=True)
        ]
        largest = max(largest, np.abs(found - expected).max())
    record_property("largest_difference", float(largest))
    print(f"largest difference {largest:.1e}")  # noqa: T201
    assert largest <= TOLERANCE


@pytest.mark.parametrize(
    "units", [1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 40, 65, 96, 127, 128, 129, 200]
)
def test_every_number_of_units_fits_the_panels(raw_model, lookup_files, isa, units):
    classes = 2 + units % 70
    model = raw_model(units=units, bidirectional=False, num_classes=classes, vocab_size=9)
    # Weights that keep states moving but logits small, whatever the width.
    arrays = {
        name: (array / np.float32(max(1.0, units**0.5) if array.ndim == 2 else 1))
        for name, array in model.fold().items()
    }
    files = lookup_files(model.config, arrays)
    native_engine, reference = NativeEngine(files, isa=isa), NumpyEngine(model.config, arrays)
    for batch in (1, 2, 5, 7, 17, 33):
        ids, lengths = make_batch(batch, 9)
        np.testing.assert_allclose(
            native_engine.logits(ids, lengths),
            reference.logits(ids, lengths),
            rtol=0,
            atol=2 * TOLERANCE,
        )


@pytest.mark.parametrize("table_dtype", ["float32", "float16", "int16", "int8"])
@pytest.mark.parametrize("recurrent_dtype", ["float32", "int16", "int8"])
@pytest.mark.parametrize("units", [6, 21, 32])
@pytest.mark.parametrize("layers", [1, 2])
def test_compressed_folders_give_what_their_values_give(
    raw_model, compressed, lookup_files, isa, table_dtype, recurrent_dtype, units, layers
):
    model = raw_model(units=units, layers=layers)
    parts = compressed(model, table_dtype, recurrent_dtype)
    engine = NativeEngine(lookup_files(**parts), isa=isa)
    reference = NumpyEngine(**parts)
    # NumPy multiplies float32 states; the kernel rounds them to 14 fractional bits for integers.
    tolerance = 4 * TOLERANCE if recurrent_dtype == "float32" else 2e-3
    for batch in (1, 3, 20):
        ids, lengths = make_batch(batch, model.config.vocab_size)
        found = softmax(engine.logits(ids, lengths))
        expected = softmax(reference.logits(ids, lengths))
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("recurrent_dtype", ["int16", "int8"])
def test_integer_products_are_the_same_in_any_batch(
    raw_model, compressed, lookup_files, isa, recurrent_dtype
):
    engine = NativeEngine(
        lookup_files(**compressed(raw_model(units=40), "float32", recurrent_dtype)), isa=isa
    )
    ids, lengths = make_batch(33, 30)
    together = engine.logits(ids, lengths)
    for row in range(33):
        alone = engine.logits(ids[row : row + 1, : lengths[row]], lengths[row : row + 1])
        np.testing.assert_array_equal(alone[0], together[row])


def test_integer_sums_at_their_bound_do_not_overflow(raw_model, lookup_files, isa):
    model = raw_model(units=8, bidirectional=False, pooling="last", relu=False)
    config = dataclasses.replace(model.config, recurrent_dtype="int16")
    arrays = model.fold()
    kernel = np.full((8, 24), 131071 // 8, np.int16)
    arrays["recurrent_kernel"] = kernel
    arrays["recurrent_kernel_scale"] = np.full(24, 1e-5, np.float32)
    # Saturated gates: z = 0, so every state is tanh(9), which rounds to 1.
    arrays["gate_table"] = np.tile(
        np.repeat(np.array([-30, 30, 9], np.float32), 8), (config.vocab_size, 1)
    )
    found = NativeEngine(lookup_files(config, arrays), isa=isa).logits(
        np.full((1, 3), 5, np.int32), np.array([3], np.int32)
    )
    expected = np.float32(np.tanh(9)) * arrays["head_kernel"].sum(axis=0) + arrays["head_bias"]
    np.testing.assert_allclose(found[0], expected, rtol=1e-5, atol=1e-5)


def test_saturated_gates_and_denormal_tables_stay_finite(raw_model, lookup_files, isa):
    model = raw_model(bidirectional=False)
    for value in (1e4, -1e4, 3e38, 1e-41, 0):
        arrays = model.fold()
        arrays["gate_table"] = np.full_like(arrays["gate_table"], value)
        ids, lengths = make_batch(5, 30)
        found = NativeEngine(lookup_files(model.config, arrays), isa=isa).logits(ids, lengths)
        with np.errstate(under="ignore"):
            expected = NumpyEngine(model.config, arrays).logits(ids, lengths)
        np.testing.assert_allclose(found, expected, rtol=0, atol=2 * TOLERANCE)


def test_the_callers_float_mode_is_put_back(raw_model, lookup_files, isa):
    model = raw_model()
    engine = NativeEngine(lookup_files(model.config, model.fold()), isa=isa)
    engine.logits(*make_batch(3, 30))
    tiny = np.float32(1e-41)
    assert tiny * np.float32(1) != 0  # denormals count again


@pytest.mark.parametrize("changes", SHAPES)
@pytest.mark.parametrize("recurrent_dtype", ["float32", "int16"])
def test_streams_give_at_every_prefix_what_the_sequence_gives(
    raw_model, compressed, lookup_files, isa, changes, recurrent_dtype
):
    engine = NativeEngine(
        lookup_files(**compressed(raw_model(**changes), "float32", recurrent_dtype)), isa=isa
    )
    tokens = np.random.default_rng(1).integers(0, 30, 90).astype(np.int32)
    stream = engine.start_stream()
    for length, token in enumerate(tokens.tolist(), start=1):
        stream.push(token)
        expected = engine.logits(tokens[None, :length], np.array([length], np.int32))[0]
        np.testing.assert_allclose(stream.logits(), expected, rtol=0, atol=4 * TOLERANCE)
    twin = stream.fork()
    twin.push(3)
    after = stream.logits()
    np.testing.assert_allclose(after, expected, rtol=0, atol=4 * TOLERANCE)
    stream.push(3)
    np.testing.assert_array_equal(twin.logits(), stream.logits())


def test_streams_refuse_what_is_no_token(raw_model, lookup_files):
    model = raw_model()
    stream = NativeEngine(lookup_files(model.config, model.fold())).start_stream()
    for token in (-1, 30, 2**40):
        with pytest.raises(ValueError, match=r"^bad argument$"):
            stream.push(token)
    with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
        stream.push("3")


def test_the_fast_form_declines_whatever_it_cannot_read_at_once(raw_model, lookup_files):
    model = raw_model()
    engine = NativeEngine(lookup_files(model.config, model.fold()))
    ids, lengths = make_batch(4, 30)
    assert engine.try_logits(ids, lengths).shape == (4, 4)
    wrong = [
        (ids.tolist(), lengths),
        (ids.astype(np.int64), lengths),
        (ids[:, ::2], lengths),
        (ids[0], lengths),
        (ids, lengths[:3]),
        (ids, lengths.astype(np.int64)),
        (ids - 5, lengths),
        (ids + 25, lengths),
        (ids, lengths + 14),
        (ids, lengths - 9),
        (ids.byteswap().view(ids.dtype.newbyteorder()), lengths),
    ]
    for bad_ids, bad_lengths in wrong:
        assert engine.try_logits(bad_ids, bad_lengths) is None
        assert engine.try_probabilities(bad_ids, bad_lengths) is None
    with pytest.raises(TypeError, match=r"^expected ids and lengths\.$"):
        engine.try_logits(ids)


def test_rows_that_are_too_long_are_refused(raw_model, lookup_files):
    model = raw_model()
    engine = NativeEngine(lookup_files(model.config, model.fold()))
    ids = np.ones((1, 2**20 + 1), np.int32)
    with pytest.raises(
        ValueError, match=r"^ids: expected at most 1048576 tokens a row, found 1048577\. Cut"
    ):
        engine.logits(ids, np.array([2**20 + 1], np.int32))


def test_no_rows_give_no_logits(raw_model, lookup_files):
    model = raw_model()
    engine = NativeEngine(lookup_files(model.config, model.fold()))
    logits = engine.logits(np.zeros((0, 1), np.int32), np.zeros(0, np.int32))
    assert (logits.shape, logits.dtype) == ((0, 4), np.float32)


def test_probabilities_are_the_softmax_for_any_number_of_classes(raw_model, lookup_files, isa):
    for classes in (2, 3, 8, 9, 45, 257, 1000):
        model = raw_model(num_classes=classes)
        arrays = model.fold()
        arrays["head_bias"] = arrays["head_bias"] * np.float32(40)  # some far below the best
        engine = NativeEngine(lookup_files(model.config, arrays), isa=isa)
        ids, lengths = make_batch(3, 30)
        found = engine.try_probabilities(ids, lengths)
        np.testing.assert_allclose(
            found, softmax(engine.logits(ids, lengths)), rtol=2e-6, atol=1e-12
        )


def test_unknown_instruction_sets_are_refused(raw_model, lookup_files, monkeypatch):
    model = raw_model()
    files = lookup_files(model.config, model.fold())
    message = (
        r"^GATETABLE_ISA: expected an instruction set of this machine \(best: \w+\), found sse9\.$"
    )
    with pytest.raises(ValueError, match=message):
        NativeEngine(files, isa="sse9")
    monkeypatch.setenv("GATETABLE_ISA", "sse9")
    with pytest.raises(ValueError, match=message):
        NativeEngine(files)
    monkeypatch.setenv("GATETABLE_ISA", "portable")
    assert NativeEngine(files).isa == "portable"


def test_arrays_of_another_size_or_type_never_reach_the_kernel(raw_model, lookup_files):
    model = raw_model()
    arrays = model.fold()
    for name in arrays:
        for bad in (arrays[name][:-1], arrays[name].astype(np.float64), None):
            with pytest.raises(ValueError, match=rf"^arrays\[{name}\]: expected "):
                NativeEngine(lookup_files(model.config, arrays | {name: bad}))


@pytest.mark.parametrize("bidirectional", [False, True])
def test_32_threads_get_what_one_gets(raw_model, lookup_files, bidirectional):
    model = raw_model(units=32, bidirectional=bidirectional)
    engine = NativeEngine(lookup_files(model.config, model.fold()))
    batches = [make_batch(1 + index % 9, model.config.vocab_size) for index in range(50)]
    expected = [engine.logits(*batch) for batch in batches]

    def work(_: int) -> bool:
        return all(
            np.array_equal(engine.logits(*batch), answer)
            for _ in range(41)
            for batch, answer in zip(batches, expected, strict=True)
        )

    with ThreadPoolExecutor(32) as pool:
        assert all(pool.map(work, range(32)))  # 32 threads x 10,000 rows


# ---- text ----

WORDS = {"cat": [5, 6], "dog": [7], "고양이": [8, 9, 10], "--": [], "é": [11]}


@pytest.fixture(scope="module")
def text_engine(request):
    make_raw = request.getfixturevalue("raw_model_session")
    files = request.getfixturevalue("lookup_files")
    model = make_raw(bidirectional=False)
    words = request.getfixturevalue("words")
    table = words({word.encode(): ids for word, ids in WORDS.items()})
    return NativeEngine(files(model.config, model.fold(), table))


def encode_unseen(word: str) -> list[int]:
    """Stand for a tokenizer: one id a character."""
    return [12 + ord(character) % 18 for character in word]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.one_of(
            st.sampled_from([*WORDS, "", "ca", "cats"]),
            st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
        ),
        max_size=9,
    )
)
def test_text_is_cut_at_spaces_and_its_words_looked_up(text_engine, words):
    text = " ".join(words)
    expected: list[int] = []
    for word in text.split(" "):
        if word:
            expected += WORDS[word] if word in WORDS else encode_unseen(word)
    assert text_engine.encode(text, encode_unseen) == (expected[:16] or [1])


def test_predict_gives_the_best_labels_first(text_engine):
    ids = WORDS["cat"] + WORDS["dog"]
    probabilities = text_engine.try_probabilities(
        np.array([ids], np.int32), np.array([len(ids)], np.int32)
    )[0]
    order = np.argsort(-probabilities, kind="stable")
    for k in (1, 3, 4):
        assert text_engine.predict("cat dog", k, encode_unseen) == [
            (f"label {index}", float(probabilities[index])) for index in order[:k]
        ]
    for k in (0, 5):
        with pytest.raises(ValueError, match=r"^k: expected 1 to the number of classes\.$"):
            text_engine.predict("cat", k, encode_unseen)


def test_equal_probabilities_stand_in_the_order_of_their_classes(raw_model, lookup_files, words):
    model = raw_model(num_classes=9)
    arrays = model.fold()
    arrays["head_kernel"] = np.zeros_like(arrays["head_kernel"])
    arrays["head_bias"] = np.array([0, 1, 0, 1, 0, 1, 0, 0, 1], np.float32)
    engine = NativeEngine(lookup_files(model.config, arrays, words({b"cat": [5]})))
    found = [label for label, _ in engine.predict("cat", 9, encode_unseen)]
    assert found == [f"label {index}" for index in (1, 3, 5, 8, 0, 2, 4, 6, 7)]


def test_what_the_tokenizer_raises_reaches_the_caller(text_engine):
    def fail(word: str) -> list[int]:
        raise RuntimeError(f"no {word}")

    with pytest.raises(RuntimeError, match=r"^no bird$"):
        text_engine.encode("cat bird", fail)
    for wrong, error, message in (
        (lambda word: "ids", TypeError, r"^encode_word: expected a list of ids\.$"),
        (lambda word: [30], ValueError, r"^encode_word: expected ids of the vocabulary\.$"),
        (lambda word: [-1], ValueError, r"^encode_word: expected ids of the vocabulary\.$"),
        (lambda word: ["x"], TypeError, "cannot be interpreted as an integer"),
    ):
        with pytest.raises(error, match=message):
            text_engine.encode("cat bird", wrong)
    with pytest.raises(UnicodeEncodeError):
        text_engine.encode("cat \ud800", encode_unseen)
    assert text_engine.encode("cat", fail) == [5, 6]


def test_a_forced_instruction_set_reaches_a_fresh_process(folder):
    code = (
        "from export.lookup import load_lookup; "
        f"print(load_lookup({os.fspath(folder)!r}, engine='native').engine.isa)"
    )
    environment = os.environ | {"GATETABLE_ISA": "portable"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    assert done.stdout == "portable\n"
