"""One worker of a tf.data service: `python -m pipeline.service.worker DISPATCHER ADDRESS`.

A process of its own, started and watched by `pipeline.service.server`. It tells on stdout when it
serves (`ready`) or why it cannot (`failed ...`), and lives as long as its stdin is open: however
its parent dies, the pipe closes, and no worker is left over.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from pipeline.run_folder import import_tensorflow

READY = "ready"
FAILED = "failed "
HEARTBEAT_MS = 1000
"""How soon a worker hears of a new pass, and the dispatcher of a lost one; the default is 30 s."""


def _end_with_parent() -> None:
    while os.read(0, 1024):
        pass
    os._exit(0)  # nothing to save, and TensorFlow's own way out may wait for a dispatcher


def serve(dispatcher: str, address: str) -> None:
    """Serve at `address` (`host:port`) for the dispatcher at `host:port`, until the parent ends."""
    # Ctrl-C in a terminal reaches the whole group: the parent decides when a worker goes.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    watcher = threading.Thread(target=_end_with_parent, name="parent-watcher", daemon=True)
    watcher.start()
    # Registers the SentencePiece op too, without which no graph of ours can be loaded.
    service = import_tensorflow().data.experimental.service
    try:
        server = service.WorkerServer(
            service.WorkerConfig(
                dispatcher_address=dispatcher,
                worker_address=address,
                port=int(address.rpartition(":")[2]),
                heartbeat_interval_ms=HEARTBEAT_MS,
            )
        )
    except RuntimeError as err:
        print(FAILED + " ".join(str(err).split()), flush=True)  # noqa: T201  (to the parent)
        sys.exit(1)
    print(READY, flush=True)  # noqa: T201  (to the parent)
    server.join()


if __name__ == "__main__":
    serve(*sys.argv[1:])
