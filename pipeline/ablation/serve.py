"""A tf.data service for as long as the process that started it lives: `python -m ... PORT`.

The parent holds this process's stdin; when it ends, even by kill -9, the service ends too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading

import click

from pipeline.service.server import ServerConfig, run_service

WORKERS = 2


def _end_with_parent() -> None:
    sys.stdin.read()  # returns when the parent is gone
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    # A shell starts what runs in the background with this signal ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):
        run_service(ServerConfig(workers=WORKERS, port=int(sys.argv[1])), click.echo)
