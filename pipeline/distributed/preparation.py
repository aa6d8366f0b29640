"""Prepare data in several processes at once that all want the same folder."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rich.console import Console

from pipeline.data_options import prepare_data
from pipeline.distributed.cluster import Cluster
from pipeline.folder_swap import FolderBusyError

if TYPE_CHECKING:
    from pipeline.data_folder import PreparedData

PATIENCE_S = 3600.0
"""A table of millions of rows takes minutes to prepare; the process that does so may also hang."""
_LOOK_EVERY_S = 0.3


def prepare_together(
    options: dict[str, Any],
    console: Console,
    cluster: Cluster | None,
    *,
    patience_s: float = PATIENCE_S,
) -> PreparedData:
    """Do what `prepare_data` does; in a cluster, wait for another worker that is doing it.

    Workers of one machine share a build folder: one prepares, the others find it done.

    Raises:
        DataError: See `prepare_data`; the folder was still busy after `patience_s`.
        ValueError: See `prepare_data`.
    """
    deadline = time.monotonic() + patience_s
    while True:
        tried = dict(options)
        try:
            prepared = prepare_data(tried, console)
        except FolderBusyError:
            if cluster is None or time.monotonic() > deadline:
                raise
            time.sleep(_LOOK_EVERY_S)
            continue
        options.clear()
        options.update(tried)
        return prepared
