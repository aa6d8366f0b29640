"""Values out of parsed JSON, each checked: what a reader of a file of another stage needs.

Every function takes an object, a key and where the object stands, and raises `FieldError` with
what was expected there and what was found.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

_MAX_SHOWN = 60


class FieldError(ValueError):
    """A value that is not of the documented form."""

    def __init__(self, place: str, expected: str, found: object) -> None:
        shown = repr(found)
        shown = shown if len(shown) <= _MAX_SHOWN else f"{shown[:_MAX_SHOWN]}..."
        super().__init__(f"{place}: expected {expected}, found {shown}")


def _take(fields: Mapping[str, Any], key: str, where: str, expected: str) -> Any:
    if key not in fields:
        raise FieldError(f"{where}{key}", expected, None)
    return fields[key]


def take_mapping(fields: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    """Return an object."""
    value = _take(fields, key, where, "an object")
    if not isinstance(value, dict):
        raise FieldError(f"{where}{key}", "an object", value)
    return value


def take_list(fields: Mapping[str, Any], key: str, where: str) -> Sequence[Any]:
    """Return a list."""
    value = _take(fields, key, where, "a list")
    if not isinstance(value, list):
        raise FieldError(f"{where}{key}", "a list", value)
    return value


def take_mappings(
    fields: Mapping[str, Any], key: str, where: str
) -> list[tuple[Mapping[str, Any], str]]:
    """Return the objects of a list, each with where its own keys stand."""
    found: list[tuple[Mapping[str, Any], str]] = []
    for index, value in enumerate(take_list(fields, key, where)):
        if not isinstance(value, dict):
            raise FieldError(f"{where}{key}[{index}]", "an object", value)
        found.append((value, f"{where}{key}[{index}]."))
    return found


def take_text(fields: Mapping[str, Any], key: str, where: str) -> str:
    """Return a string."""
    value = _take(fields, key, where, "a string")
    if not isinstance(value, str):
        raise FieldError(f"{where}{key}", "a string", value)
    return value


def take_count(fields: Mapping[str, Any], key: str, where: str) -> int:
    """Return a whole number from 0."""
    value = _take(fields, key, where, "a whole number from 0")
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise FieldError(f"{where}{key}", "a whole number from 0", value)
    return value


def take_number(
    fields: Mapping[str, Any], key: str, where: str, *, highest: float = math.inf
) -> float:
    """Return a finite number from 0 to `highest`."""
    most = "" if highest == math.inf else f" to {highest:g}"
    value = _take(fields, key, where, f"a number from 0{most}")
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not 0 <= value <= highest:
        raise FieldError(f"{where}{key}", f"a number from 0{most}", value)
    return float(value)


def take_share(fields: Mapping[str, Any], key: str, where: str) -> float:
    """Return a number from 0 to 1."""
    return take_number(fields, key, where, highest=1.0)
