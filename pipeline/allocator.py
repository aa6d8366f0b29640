"""Has glibc keep the memory that a training step frees, for the next step to take.

A step allocates and frees some hundred megabytes of temporary arrays. By its defaults glibc gives
them back to the system, and every page of them is cleared and mapped anew a moment later: more than
half of the time of a step, where the layout of the heap happens to be an unlucky one.
"""

from __future__ import annotations

import ctypes
import platform

# Of malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_KEPT_BYTES = 2**30
"""Free memory at the end of the heap that is not given back."""
_PAD_BYTES = 2**26
_MAPPED_BYTES = 2**25
"""Larger arrays are mapped by themselves: the highest bound that glibc takes."""


def keep_freed_memory() -> bool:
    """Tell glibc so, for this process and from now on.

    Returns:
        Whether it was told: False without glibc (macOS, musl).
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = (
        (_M_TRIM_THRESHOLD, _KEPT_BYTES),
        (_M_TOP_PAD, _PAD_BYTES),
        (_M_MMAP_THRESHOLD, _MAPPED_BYTES),
    )
    told = [mallopt(name, value) == 1 for name, value in settings]
    return all(told)
