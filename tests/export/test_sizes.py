from __future__ import annotations

import pytest

from export.sizes import format_bytes


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (8_700_000, "8.3 MiB"), (2**31, "2.0 GiB")],
)
def test_sizes_are_for_people(size: int, text: str) -> None:
    assert format_bytes(size) == text
