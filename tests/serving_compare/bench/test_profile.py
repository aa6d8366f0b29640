from __future__ import annotations

import json

import pytest

from serving_compare.bench.profile import DEFAULT, QUICK, BenchOptionError, choose_profile
from serving_compare.statistics import MIN_ROUNDS_TO_CLAIM


def test_the_default_takes_enough_processes_to_claim_something():
    assert DEFAULT.processes >= MIN_ROUNDS_TO_CLAIM
    assert QUICK.processes >= 3


def test_options_beat_the_profile():
    profile = choose_profile(quick=True, units=(256, 64), lengths=(20, 1))
    assert profile.name == "quick"
    assert profile.units == (64, 256)
    assert profile.lengths == (1, 20)
    assert profile.cold_lengths == (20,)


def test_cold_lengths_are_among_the_lengths():
    assert choose_profile(quick=False, units=None, lengths=(3, 7)).cold_lengths == (7,)
    assert choose_profile(quick=False, units=None, lengths=(2, 7)).cold_lengths == (2,)
    assert choose_profile(quick=False, units=None, lengths=None) == DEFAULT


@pytest.mark.parametrize(
    ("units", "found"), [((), "nothing"), ((0,), "0"), ((8, 5000), "5000"), ((8, 8), "8,8")]
)
def test_units_out_of_range_are_refused(units: tuple[int, ...], found: str):
    with pytest.raises(
        BenchOptionError,
        match=r"^--units: expected distinct numbers from 1 to 4096, separated by commas, found "
        + found
        + r"\.$",
    ):
        choose_profile(quick=False, units=units, lengths=None)


def test_lengths_out_of_range_are_refused():
    with pytest.raises(
        BenchOptionError, match=r"^--lengths: expected distinct numbers from 1 to 1000, separated"
    ):
        choose_profile(quick=False, units=None, lengths=(0, 1))


def test_the_settings_survive_json():
    values = DEFAULT.to_json()
    assert json.loads(json.dumps(values)) == values
    assert values["limits"]["blocks"] == DEFAULT.limits.blocks
