"""One worker of `train-workers`: `python -m pipeline.distributed.worker [train's options]`.

A process of its own that runs `python -m pipeline train` and lives as long as its stdin is open:
however the launcher dies, the pipe closes, and no worker is left over.
"""

from __future__ import annotations

import os
import signal
import sys
import threading


def _end_with_parent() -> None:
    while os.read(0, 1024):
        pass
    os._exit(1)  # what is worth keeping is on disk already, whole


def main() -> None:
    """Train until done, or until the parent ends."""
    # Ctrl-C in a terminal reaches the whole group: the launcher decides when a worker goes.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="parent-watcher", daemon=True).start()
    from pipeline.__main__ import cli

    cli(["train", *sys.argv[1:]], prog_name="python -m pipeline")


if __name__ == "__main__":
    main()
