"""Hot swap: a new version is loaded beside the one in use, proven, and exchanged for it."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from export.bundle import MANIFEST_FILE, BundleError
from serving_compare.server.logs import LOGGER, log
from serving_compare.server.metrics import Meters
from serving_compare.server.model_slot import ModelSlot


class Follower:
    """Follows `latest` for one worker.

    Args:
        slot: Whose model is exchanged.
        meters: Told of every exchange and failure.
    """

    def __init__(self, slot: ModelSlot, meters: Meters) -> None:
        self._slot = slot
        self._meters = meters
        self._failed: tuple[Path, int] | None = None
        self._complaint = ""

    async def look(self) -> None:
        """Exchange the model where `latest` names another version than the one in use.

        A version that fails stays out until its manifest is written anew; the one in use goes on.
        """
        try:
            folder = self._slot.find_version_folder()
            key = (folder, (folder / MANIFEST_FILE).stat().st_mtime_ns)
        except (BundleError, OSError) as err:
            if str(err) != self._complaint:  # once, not every second
                self._complaint = str(err)
                log("latest_unusable", level=logging.ERROR, error=str(err))
            return
        self._complaint = ""
        before = self._slot.current
        if folder == before.artifact.folder or key == self._failed:
            return
        log("swap_begins", version_before=before.version, folder=folder.name)
        try:
            # In a thread: requests are answered meanwhile.
            model = await asyncio.to_thread(self._slot.load)
        except Exception as err:  # noqa: BLE001  (whatever it is, the old version must go on)
            self._failed = key
            self._meters.count_swap_failure()
            LOGGER.error(
                "swap_failed",
                extra={"fields": {"serving": before.version, "error": str(err)[:2000]}},
            )
            return
        self._slot.exchange(model)
        self._meters.note_version(model.version, is_swap=True)
        log("swapped", version_before=before.version, version=model.version)
