"""A worker is loading, ready or draining, and accepts what has come until its time is up."""

from __future__ import annotations

from serving_compare.server.lifecycle import Lifecycle
from serving_compare.server.model_slot import ModelSlot
from tests.serving_compare.server.running import GOLDEN


def test_states_follow_one_another() -> None:
    slot = ModelSlot("lookup", GOLDEN, follow=False)
    lifecycle = Lifecycle(slot)
    assert (lifecycle.state, lifecycle.is_ready, lifecycle.accepts) == ("loading", False, False)
    slot.exchange(slot.load())
    assert (lifecycle.state, lifecycle.is_ready, lifecycle.accepts) == ("ready", True, True)
    lifecycle.is_draining = True
    assert (lifecycle.state, lifecycle.is_ready, lifecycle.accepts) == ("draining", False, True)
    lifecycle.is_over = True
    assert (lifecycle.state, lifecycle.is_ready, lifecycle.accepts) == ("draining", False, False)
