"""Where a worker stands between its start and its end."""

from __future__ import annotations

from serving_compare.server.model_slot import ModelSlot


class Lifecycle:
    """Loading, ready, or draining. Belongs to one worker process.

    Attributes:
        is_draining: Whether SIGTERM has come: no new clients, please.
        is_over: Whether the time to drain is up: whoever still asks is refused.
    """

    def __init__(self, slot: ModelSlot) -> None:
        self._slot = slot
        self.is_draining = False
        self.is_over = False

    @property
    def accepts(self) -> bool:
        """Whether a request that is there is answered; also while draining."""
        return self._slot.is_loaded and not self.is_over

    @property
    def is_ready(self) -> bool:
        """Whether new requests are welcome."""
        return self._slot.is_loaded and not self.is_draining

    @property
    def state(self) -> str:
        """`loading`, `ready` or `draining`, for people."""
        if self.is_draining:
            return "draining"
        return "ready" if self._slot.is_loaded else "loading"
