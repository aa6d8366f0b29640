from __future__ import annotations

from collections import Counter
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from serving_compare.schedule import PROFILES, has_time_for_round, make_rounds
from serving_compare.statistics import MIN_ROUNDS_TO_CLAIM, MIN_SAMPLES_P99

names = st.lists(st.text("abcdef", min_size=1, max_size=4), min_size=1, max_size=6, unique=True)


@settings(deadline=None, max_examples=40)
@given(names, names, st.integers(1, 9), st.integers(1, 4), st.integers(0, 2**31 - 1))
def test_each_backend_has_its_slices_of_every_cell_in_every_round(
    backends: list[str], cells: list[str], rounds: int, slices: int, seed: int
):
    schedule = make_rounds(backends, cells, rounds=rounds, slices=slices, seed=seed)
    assert [one.number for one in schedule] == list(range(rounds))
    for one in schedule:
        assert Counter(one.starts) == Counter(backends)
        expected = {(cell, backend): slices for cell in cells for backend in backends}
        assert Counter((turn.cell, turn.backend) for turn in one.turns) == expected


def test_backends_follow_each_other_directly_within_a_cell():
    (one,) = make_rounds(list("abc"), ["x", "y", "z"], rounds=1, slices=5, seed=1)
    blocks = [one.turns[start : start + 3] for start in range(0, len(one.turns), 3)]
    for block in blocks:
        assert len({turn.cell for turn in block}) == 1
        assert sorted(turn.backend for turn in block) == ["a", "b", "c"]
    # All cells before any of them again.
    for first, second, third in zip(blocks[::3], blocks[1::3], blocks[2::3], strict=True):
        assert {first[0].cell, second[0].cell, third[0].cell} == {"x", "y", "z"}


def test_order_is_seeded_and_fresh_every_time():
    backends, cells = list("abcde"), list("xyz")
    first = make_rounds(backends, cells, rounds=10, slices=2, seed=1)
    assert first == make_rounds(backends, cells, rounds=10, slices=2, seed=1)
    assert first != make_rounds(backends, cells, rounds=10, slices=2, seed=2)
    assert len({one.starts for one in first}) > 5
    assert all(one.turns != other.turns for one, other in pairwise(first))


def test_first_round_always_runs_and_later_ones_only_in_time():
    assert has_time_for_round(elapsed_s=999, rounds_s=[], limit_s=10)
    assert has_time_for_round(elapsed_s=6, rounds_s=[2, 4, 3], limit_s=10)
    assert not has_time_for_round(elapsed_s=6.1, rounds_s=[2, 4, 3], limit_s=10)


def test_default_profile_can_claim_wins_and_print_p99():
    for name in ("default", "thorough"):
        profile = PROFILES[name]
        assert profile.rounds >= MIN_ROUNDS_TO_CLAIM
        samples = profile.rounds * profile.slices * profile.limits.min_samples
        assert samples >= MIN_SAMPLES_P99
    assert PROFILES["quick"].rounds < MIN_ROUNDS_TO_CLAIM


def test_profile_settings_are_json_values():
    settings = PROFILES["quick"].to_json()
    assert settings["name"] == "quick"
    assert settings["limits"]["min_samples"] == PROFILES["quick"].limits.min_samples
