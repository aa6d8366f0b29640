"""A TOML file that says which data is meant: every data option, row filters and a label map.

    source = ["news/*.csv.gz"]        # relative to this file
    text_column = "headline"

    [filters]
    text_must_not_match = '^(Advertisement|Sponsored):'

    [labels]
    "Arts & Culture" = "culture"      # merges classes
    "Test" = ""                       # drops its rows

Reads the file, gives checked values; which of them an option beats is `pipeline.data_options`.
"""

from __future__ import annotations

import dataclasses
import glob
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config import FilterConfig, PrepareConfig
from pipeline.tables.source import DataError

_MAX_BYTES = 2**20
_FIELDS = (
    *("text_column", "label_column", "format", "delimiter", "label_prefix"),
    *("vocab_size", "max_tokens"),
)
"""Keys that are fields of `PrepareConfig` under the same name."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What a file sets; what it leaves out is empty, None or missing.

    Attributes:
        source: Paths and patterns.
        data_name: Name of the dataset.
        fields: Fields of `PrepareConfig`, filters and label map included.
    """

    source: tuple[Path, ...] = ()
    data_name: str | None = None
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def _load(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as err:
        raise DataError(f"{path}: expected a TOML file, found {err.strerror}.") from err
    if len(content) > _MAX_BYTES:
        raise DataError(f"{path}: expected a TOML file of at most {_MAX_BYTES} bytes, found more.")
    try:
        return tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as err:
        raise DataError(f"{path}: expected TOML, found {err}.") from err


def _check_keys(place: str, values: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key in values:
        if key not in known:
            raise DataError(f"{place}: expected keys among {', '.join(known)}, found {key[:50]!r}.")


def _take_table(path: Path, values: dict[str, Any], key: str) -> dict[str, Any]:
    table = values.pop(key, {})
    if not isinstance(table, dict):
        raise DataError(f"{path}: {key}: expected a table, [{key}], found {table!r}.")
    return table


def _read_filters(path: Path, table: Mapping[str, Any]) -> FilterConfig:
    known = tuple(field.name for field in dataclasses.fields(FilterConfig))
    _check_keys(f"{path}: [filters]", table, known)
    try:
        return FilterConfig(**table)
    except ValueError as err:
        raise DataError(f"{path}: [filters] {err}") from err


def _read_labels(path: Path, table: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    labels = []
    for raw, label in sorted(table.items()):
        if label is not False and not isinstance(label, str):
            raise DataError(
                f'{path}: [labels] {raw!r}: expected a label, or "" or false to drop its rows, '
                f"found {label!r}."
            )
        labels.append((raw, label or ""))
    return tuple(labels)


def _read_source(path: Path, value: Any) -> tuple[Path, ...]:
    patterns = [value] if isinstance(value, str) else value
    if not isinstance(patterns, list) or not all(
        isinstance(pattern, str) and pattern for pattern in patterns
    ):
        raise DataError(f"{path}: source: expected a path or a list of paths, found {value!r}.")
    folder = glob.escape(str(path.parent))  # only what the file says is a pattern
    return tuple(Path(folder, pattern) for pattern in patterns)


def read_data_config(path: Path) -> DataConfig:
    """Read and check a file.

    Args:
        path: A TOML file.

    Returns:
        What it sets; its sources are relative to its own folder.

    Raises:
        DataError: It cannot be read, is no TOML, or has an unknown key or a bad value.
    """
    values = _load(path)
    filters = _read_filters(path, _take_table(path, values, "filters"))
    labels = _read_labels(path, _take_table(path, values, "labels"))
    known = ("source", "data_name", *_FIELDS, "filters", "labels")
    _check_keys(str(path), values, known)
    source = _read_source(path, values.pop("source", []))
    data_name = values.pop("data_name", None)
    for key in ("data_name", "text_column", "label_column", "delimiter", "label_prefix"):
        value = values.get(key, data_name if key == "data_name" else None)
        if value is not None and not isinstance(value, str):
            raise DataError(f"{path}: {key}: expected a string, found {value!r}.")
    columns = ("text_column", "label_column")
    try:
        # Without the columns: an option may yet name the other one.
        PrepareConfig(
            label_map=labels,
            **{key: value for key, value in values.items() if key not in columns},
        )
    except ValueError as err:
        raise DataError(f"{path}: {err}") from err
    fields = {**values, "filters": filters, "label_map": labels}
    return DataConfig(source=source, data_name=data_name, fields=fields)
