from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from serving_compare.schedule import PROFILES, has_time_for_round, make_rounds
from serving_compare.statistics import MIN_ROUNDS_TO_CLAIM, MIN_SAMPLES_P99

names = st.lists(st.text("abcdef", min_size=1, max_size=4), min_size=1, max_size=6, unique=True)


@settings(deadline=None, max_examples=40)
@given(names, names, st.integers(1, 9), st.integers(0, 2**31 - 1))
def test_each_backend_has_one_turn_a_round_and_sees_every_cell(
    backends: list[str], cells: list[str], rounds: int, seed: int
):
    schedule = make_rounds(backends, cells, rounds=rounds, seed=seed)
    assert [{turn.round for turn in turns} for turns in schedule] == [{n} for n in range(rounds)]
    for turns in schedule:
        assert Counter(turn.backend for turn in turns) == Counter(backends)
        assert {turn.cells for turn in turns} == {turns[0].cells}
        assert Counter(turns[0].cells) == Counter(cells)


def test_order_is_seeded_and_fresh_in_every_round():
    backends, cells = list("abcde"), list("xyz")
    first = make_rounds(backends, cells, rounds=10, seed=1)
    assert first == make_rounds(backends, cells, rounds=10, seed=1)
    assert first != make_rounds(backends, cells, rounds=10, seed=2)
    assert len({tuple(turn.backend for turn in turns) for turns in first}) > 5


def test_first_round_always_runs_and_later_ones_only_in_time():
    assert has_time_for_round(elapsed_s=999, rounds_s=[], limit_s=10)
    assert has_time_for_round(elapsed_s=6, rounds_s=[2, 4, 3], limit_s=10)
    assert not has_time_for_round(elapsed_s=6.1, rounds_s=[2, 4, 3], limit_s=10)


def test_default_profile_can_claim_wins_and_print_p99():
    for name in ("default", "thorough"):
        profile = PROFILES[name]
        assert profile.rounds >= MIN_ROUNDS_TO_CLAIM
        assert profile.rounds * profile.limits.min_samples >= MIN_SAMPLES_P99
    assert PROFILES["quick"].rounds < MIN_ROUNDS_TO_CLAIM


def test_profile_settings_are_json_values():
    settings = PROFILES["quick"].to_json()
    assert settings["name"] == "quick"
    assert settings["limits"]["min_samples"] == PROFILES["quick"].limits.min_samples
