from __future__ import annotations

from pathlib import Path

import numpy as np

from serving_compare.load.recording import (
    Failure,
    name_status,
    read_recording,
    write_recording,
)

from .conftest import MakeRecording

STATUSES = [200, 429, 503, 500, Failure.UNANSWERED, 204]


def test_a_recording_is_read_as_it_was_written(
    tmp_path: Path, make_recording: MakeRecording
) -> None:
    recording = make_recording([1, 2, 3], status=[200, 429, -1], start_ns=7)
    write_recording(tmp_path / "r.npz", recording)
    again = read_recording(tmp_path / "r.npz")
    assert again.start_ns == 7
    assert [path.name for path in tmp_path.iterdir()] == ["r.npz"]
    for name, array in recording.arrays().items():
        assert array.tolist() == again.arrays()[name].tolist(), name


def test_every_request_is_answered_refused_or_an_error(make_recording: MakeRecording) -> None:
    recording = make_recording(1, count=6, status=STATUSES)
    assert recording.is_ok.tolist() == [True, False, False, False, False, True]
    assert recording.is_refused.tolist() == [False, True, True, False, False, False]
    assert recording.is_error.tolist() == [False, False, False, True, True, False]


def test_statuses_are_counted_by_name_most_frequent_first(make_recording: MakeRecording) -> None:
    recording = make_recording(1, count=6, status=[-1, -1, 200, 200, 200, 429])
    assert list(recording.count_statuses().items()) == [("200", 3), ("unanswered", 2), ("429", 1)]
    assert name_status(Failure.NOT_CONNECTED) == "not connected"


def test_latency_counts_from_the_schedule_and_the_wait_is_no_lag(
    make_recording: MakeRecording,
) -> None:
    # Due at 0 while all connections were busy until 5; sent at 6, answered at 10.
    recording = make_recording([10], available_ns=np.array([5]), sent_ns=np.array([6]))
    found = (recording.latency_ns, recording.service_ns, recording.lag_ns)
    assert [int(values[0]) for values in found] == [10, 4, 1]
    assert recording.waited == 1


def test_a_selection_keeps_the_start(make_recording: MakeRecording) -> None:
    recording = make_recording([1, 2, 3], start_ns=9).select(np.array([True, False, True]))
    assert (recording.start_ns, len(recording)) == (9, 2)
