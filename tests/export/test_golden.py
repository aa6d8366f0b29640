from __future__ import annotations

import random

import pytest
import sentencepiece

from export.golden import HOSTILE_TEXTS, MIN_PROBES, choose_probe_texts, encode_texts
from tests.export.tiny import MAX_TOKENS, make_texts


@pytest.fixture(scope="module")
def processor(tokenizer_model: bytes) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_proto=tokenizer_model)


@pytest.mark.parametrize("count", [1, 40, 700])
def test_there_are_always_enough_distinct_probes(count: int) -> None:
    chosen = choose_probe_texts([f"text number {row}" for row in range(count)], 16)
    assert len(chosen) == len(set(chosen)) >= MIN_PROBES
    assert chosen[: len(HOSTILE_TEXTS)] == list(HOSTILE_TEXTS)


def test_no_text_at_all_still_gives_probes() -> None:
    assert len(choose_probe_texts([], 16)) >= MIN_PROBES


def test_the_choice_does_not_depend_on_the_order_of_the_split() -> None:
    texts = [" ".join(["word"] * (row % 20 + 1)) + f" {row}" for row in range(500)]
    shuffled = random.Random(1).sample(texts, len(texts))
    assert choose_probe_texts(texts, 16) == choose_probe_texts(shuffled, 16)


def test_shortest_and_longest_text_of_the_split_are_probed() -> None:
    texts = [f"{'x' * row} {row}" for row in range(600)]
    chosen = choose_probe_texts(texts, 16)
    assert {texts[0], texts[-1]} <= set(chosen)


def test_probes_cover_the_cases_the_format_promises(
    processor: sentencepiece.SentencePieceProcessor,
) -> None:
    chosen = choose_probe_texts(make_texts(), MAX_TOKENS)
    ids = encode_texts(processor, chosen, MAX_TOKENS)
    uncut = encode_texts(processor, chosen, 10**6)
    assert ids[chosen.index("")] == [1]
    assert any(len(row) == 1 and row != [1] for row in ids)
    assert any(len(row) > MAX_TOKENS for row in uncut)
    space = processor.piece_to_id("▁")
    assert 1 in ids[chosen.index("𓀀𓀁𓀂 𓀃𓀄")]
    assert set(ids[chosen.index("𓀀𓀁𓀂 𓀃𓀄")]) <= {1, space}
    assert any("한국" in text for text in chosen)
    assert any("👩" in text for text in chosen)


def test_ids_are_cut_and_never_empty(processor: sentencepiece.SentencePieceProcessor) -> None:
    assert encode_texts(processor, ["", "cat dog river stone"], 2) == [
        [1],
        processor.encode("cat dog river stone")[:2],
    ]
