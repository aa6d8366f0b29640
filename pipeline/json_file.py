"""JSON files of bounded size. `write_json` and `read_bounded_json` are inverses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.whole_file import write_whole

MAX_JSON_BYTES = 64 * 2**20
"""Bound on a file before it is parsed."""


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON, keys sorted, whole or not at all.

    Raises:
        OSError: The place cannot be written.
        ValueError: A number is not finite.
    """
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    write_whole(path, text + "\n")


def read_bounded_json(
    path: Path, *, error: Callable[[str], Exception], finished: str, again: str
) -> Any:
    """Read a JSON file of bounded size.

    Args:
        path: Where it lies.
        error: What to raise, given the message.
        finished: What its folder would be if the file were there, and how to come by one.
        again: What to do about a damaged one, a sentence.

    Raises:
        Exception: What `error` gives: it is missing, unreadable, too large, or not JSON.
    """
    try:
        size = path.stat().st_size
        if size > MAX_JSON_BYTES:
            raise error(f"{path}: expected at most {MAX_JSON_BYTES} bytes, found {size}.")
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as err:
        raise error(f"{path}: no such file, so {path.parent} is not {finished}") from err
    except OSError as err:
        raise error(f"{path}: expected a readable file, found {err.strerror}.") from err
    except ValueError as err:
        raise error(f"{path}: expected JSON, found {err}. {again}") from err
