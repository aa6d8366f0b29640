from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from export.model_card.checked_json import (
    FieldError,
    take_count,
    take_list,
    take_mapping,
    take_mappings,
    take_number,
    take_share,
    take_text,
)


@pytest.mark.parametrize(
    ("take", "value"),
    [
        (take_mapping, {"a": 1}),
        (take_list, [1]),
        (take_text, "a"),
        (take_count, 0),
        (take_number, 2.5),
        (take_number, 3),
        (take_share, 1.0),
    ],
)
def test_a_value_of_the_right_kind_is_returned(take: Callable[..., Any], value: Any) -> None:
    assert take({"key": value}, "key", "") == value


@pytest.mark.parametrize(
    ("take", "value", "message"),
    [
        (take_mapping, [], r"^top\.key: expected an object, found \[\]$"),
        (take_list, "x", r"^top\.key: expected a list, found 'x'$"),
        (take_text, 1, r"^top\.key: expected a string, found 1$"),
        (take_count, -1, r"^top\.key: expected a whole number from 0, found -1$"),
        (take_count, True, r"expected a whole number from 0, found True$"),
        (take_count, 1.0, r"expected a whole number from 0, found 1\.0$"),
        (take_number, float("nan"), r"expected a number from 0, found nan$"),
        (take_number, float("inf"), r"expected a number from 0, found inf$"),
        (take_number, False, r"expected a number from 0, found False$"),
        (take_number, "x" * 100, r"found 'x{59}\.\.\.$"),
        (take_share, 1.5, r"expected a number from 0 to 1, found 1\.5$"),
        (take_mappings, [{}, 3], r"^top\.key\[1\]: expected an object, found 3$"),
    ],
)
def test_another_value_is_named_with_its_place(
    take: Callable[..., Any], value: Any, message: str
) -> None:
    with pytest.raises(FieldError, match=message):
        take({"key": value}, "key", "top.")


@pytest.mark.parametrize("take", [take_mapping, take_list, take_text, take_count, take_share])
def test_a_missing_value_is_named(take: Callable[..., Any]) -> None:
    with pytest.raises(FieldError, match=r"^top\.key: expected a .*, found None$|an object, found"):
        take({}, "key", "top.")


def test_objects_of_a_list_know_their_place() -> None:
    assert take_mappings({"a": [{"b": 1}]}, "a", "x.") == [({"b": 1}, "x.a[0].")]
