"""The data card: what is in a data folder, for the person who must trust it.

`write_data_card` reads a complete data folder and adds `data_card.json` (its schema is
`pipeline/schema/data_card.schema.json`) and `data_card.html`. Both are a function of the folder:
the same folder gives the same bytes.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from pipeline.json_file import write_json
from pipeline.tables.source import DataError

CARD_JSON = "data_card.json"
CARD_PAGE = "data_card.html"
_PRINTED_WARNINGS = 10


def write_data_card(folder: Path) -> None:
    """Measure a complete data folder, and write its card into it.

    Takes scikit-learn, matplotlib and TensorFlow; memory is bounded, whatever the number of rows.

    Args:
        folder: As `pipeline.data_folder.write_prepared` leaves it.

    Raises:
        DataError: The folder is incomplete or damaged.
    """
    from pipeline.data_card.card_warnings import find_warnings
    from pipeline.data_card.measure import measure_data
    from pipeline.data_card.page import render_page

    measured = measure_data(folder)
    card = dataclasses.replace(measured, warnings=find_warnings(measured))
    write_json(folder / CARD_JSON, dataclasses.asdict(card))
    (folder / CARD_PAGE).write_text(render_page(card), encoding="utf-8", newline="\n")


def read_warnings(folder: Path) -> list[str]:
    """Return the sentences that the card of a data folder warns with.

    Raises:
        DataError: There is no such card.
    """
    path = folder / CARD_JSON
    try:
        fields: Any = json.loads(path.read_text(encoding="utf-8"))
        return [str(warning["text"]) for warning in fields["warnings"]]
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise DataError(
            f"{path}: expected the data card that `make data` writes, found {type(err).__name__}. "
            f"Remove {folder} and prepare again with `make data`."
        ) from err


def summarise_warnings(folder: Path) -> str:
    """Return one sentence: how many warnings there are, and where to read them.

    Raises:
        DataError: There is no data card.
    """
    count = len(read_warnings(folder))
    noun = "warning" if count == 1 else "warnings"
    return f"The data card has {count or 'no'} {noun}: {folder / CARD_PAGE}"


def list_warnings(folder: Path) -> list[str]:
    """Return the lines that `data` prints: the first warnings, and where the card lies.

    Raises:
        DataError: There is no data card.
    """
    warnings = read_warnings(folder)
    more = len(warnings) - _PRINTED_WARNINGS
    return [
        *(f"warning: {text}" for text in warnings[:_PRINTED_WARNINGS]),
        f"and {more} more in {folder / CARD_PAGE}" if more > 0 else f"{folder / CARD_PAGE}",
    ]
