"""Sizes for people."""

from __future__ import annotations


def format_bytes(size: int) -> str:
    """Return a size for people, in powers of 1024: `8.3 MiB`."""
    value = float(size)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"
