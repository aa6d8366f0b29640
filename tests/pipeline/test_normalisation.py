"""The normal form of a text, as the compiled rules make it."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.normalisation import build_rules, normalise, normalise_all

LETTERS = st.text(
    st.characters(categories=("Ll", "Lu", "Nd"), max_codepoint=0x24F).filter(
        lambda char: unicodedata.normalize("NFKC", char) == char
    ),
    max_size=20,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ｖe\u0301ry — GOOD!", "véry good"),
        ("  a \t b\n", "a b"),
        ("!!!", ""),
        ("a\u0000b", "a b"),
        ("\ufeffsoft\u00adhyphen", "softhyphen"),
        ("zero\u200bwidth", "zero width"),
        ("\u2581a\u2581b", "a b"),
        ("Straße", "strasse"),
        ("ΣΊΣΥΦΟΣ", "σίσυφοσ"),
        ("①⑴ ㎏", "1 1 kg"),
        ("❤\ufe0f 1\ufe0f\u20e3", "1"),
        ("\u00b4", ""),
        ("\ufdfa", "صلى الله عليه وسلم"),
        ("ｶﾞｷ", "ガキ"),
    ],
)
def test_text_becomes_its_normal_form(text: str, expected: str) -> None:
    assert normalise(text) == expected


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize(
    "text", ["한국어 뉴스 각 갂 값", "ậ ṩ ế Ǖ", "crème brûlée", "й Ѐ", "がぎぱ", "शुक्रिया", "İ"]
)
def test_canonically_equal_spellings_become_equal(text: str, form: str) -> None:
    folded = unicodedata.normalize("NFKC", text.casefold())
    assert normalise(unicodedata.normalize(form, text)) == folded


def test_every_order_of_two_marks_composes() -> None:
    spellings = {"a\u0323\u0302", "a\u0302\u0323", "\u1ea1\u0302", "\u00e2\u0323", "\u1ead"}
    assert {normalise(spelling) for spelling in spellings} == {"\u1ead"}


def test_open_syllable_and_final_jamo_compose() -> None:
    assert normalise("\uac00\u11a8") == "\uac01"


@pytest.fixture(scope="module")
def rules() -> dict[str, str]:
    return build_rules()


def test_no_target_holds_two_neighbouring_spaces(rules: dict[str, str]) -> None:
    # SentencePiece merges spaces between targets, but not inside one.
    assert not [source for source, target in rules.items() if "  " in target]


def test_no_rule_keeps_a_symbol_or_changes_nothing(rules: dict[str, str]) -> None:
    assert not [source for source, target in rules.items() if source == target]
    kept = "".join(rules.values()).replace(" ", "")
    assert {unicodedata.category(char)[0] for char in kept} <= set("LMN")


def test_rules_are_sorted_and_repeatable(rules: dict[str, str]) -> None:
    assert list(rules) == sorted(rules)
    assert rules == build_rules()


@given(st.text(max_size=30))
def test_normal_form_is_trimmed_and_free_of_ascii_capitals_and_punctuation(text: str) -> None:
    normal = normalise(text)
    assert normal == normal.strip(" ")
    assert "  " not in normal
    assert all(char.islower() or char.isdigit() or char == " " for char in normal if char < "\x80")


@given(LETTERS)
def test_normalising_letters_twice_changes_nothing(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@given(LETTERS, LETTERS)
def test_words_normalise_on_their_own(first: str, second: str) -> None:
    both = " ".join(filter(None, (normalise(first), normalise(second))))
    assert normalise(f"{first} {second}") == both


@given(texts=st.lists(st.text(), max_size=5))
def test_many_texts_at_once_have_the_forms_they_have_alone(texts: list[str]) -> None:
    assert normalise_all(texts) == [normalise(text) for text in texts]
