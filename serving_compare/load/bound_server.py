"""`serve` bound to the life of the process that started it: `python -m ... bound_server OPTIONS`.

The server under test is left to itself when the comparison is killed outright. Linux can send a
signal to a process whose parent has died; this asks for SIGTERM, then becomes `serve`.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from serving_compare.__main__ import main

PR_SET_PDEATHSIG = 1
"""From linux/prctl.h."""


def die_with_parent(parent: int) -> None:
    """Ask for SIGTERM when the parent ends; end at once where it already has.

    Args:
        parent: Its process id, as it told us itself.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(1)


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    main(["serve", *sys.argv[2:]], prog_name="python -m serving_compare")
