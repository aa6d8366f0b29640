from __future__ import annotations

from serving_compare.load.profile import HTTP_PROFILES
from serving_compare.schedule import PROFILES
from serving_compare.statistics import MIN_ROUNDS_TO_CLAIM


def test_every_profile_of_the_comparison_has_one_for_http() -> None:
    assert list(HTTP_PROFILES) == list(PROFILES)
    assert all(name == profile.name for name, profile in HTTP_PROFILES.items())


def test_the_quick_one_claims_nothing_and_the_others_may() -> None:
    assert HTTP_PROFILES["quick"].rounds < MIN_ROUNDS_TO_CLAIM
    assert HTTP_PROFILES["default"].rounds >= MIN_ROUNDS_TO_CLAIM


def test_a_probe_of_a_slow_backend_lasts_until_a_p99_can_be_told() -> None:
    profile = HTTP_PROFILES["default"]
    assert profile.stretch_probe(5000) == profile.probe_s
    assert profile.stretch_probe(200) == 5.0
    assert profile.stretch_probe(1) == 4 * profile.probe_s
