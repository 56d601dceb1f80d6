"""What people ask of detectors that another collector runs."""

import threading

import pytest

from collector.detection import requests
from collector.detection.messages import Erase, Expect
from collector.detection.process import DetectorsAwayError
from collector.detection.requests import DetectorRequests
from collector.storage.state.store import StateStore
from collector.storage.state.tables.detectors import DETECTOR_REQUESTS
from tests.collector.api.fakes import make_alert


class Detectors:
    """Does what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[Expect | Erase] = []
        self.is_busy = False

    def ask(self, message: Expect | Erase, timeout_seconds: float) -> int:
        if self.is_busy:
            raise TimeoutError
        self.asked.append(message)
        return 3

    def expect(self, alert: object) -> None:
        raise AssertionError("they are another collector's")


def open_both(state: StateStore) -> tuple[DetectorRequests, DetectorRequests, Detectors]:
    """Of a collector that asks, and of the one that detects."""
    detectors = Detectors()
    here = DetectorRequests(state, Detectors(), lambda: False)  # type: ignore[arg-type]
    there = DetectorRequests(state, detectors, lambda: True)  # type: ignore[arg-type]
    return here, there, detectors


def test_an_expected_level_reaches_the_detectors_once(state: StateStore) -> None:
    here, there, detectors = open_both(state)
    here.expect(make_alert("a1", endpoint_id="e", consumer="principal:1", calls=60, window_start=0, window_end=60))
    detectors.is_busy = True
    with pytest.raises(TimeoutError):
        there.look()
    detectors.is_busy = False
    there.look()
    there.look()
    (asked,) = detectors.asked
    assert isinstance(asked, Expect) and (asked.endpoint_id, asked.consumer, asked.rate) == ("e", "principal:1", 1.0)


def test_an_erasure_waits_for_the_answer_and_leaves_no_name(state: StateStore) -> None:
    here, there, detectors = open_both(state)
    answers: list[int] = []
    thread = threading.Thread(target=lambda: answers.append(here.erase("principal:1", 60.0)))
    thread.start()
    while not detectors.asked:
        there.look()
    with state.read() as connection:
        rows = connection.execute(DETECTOR_REQUESTS.select()).all()
    assert all(b"principal:1" not in row.content for row in rows)
    thread.join()
    assert answers == [3]
    with state.read() as connection:
        assert connection.execute(DETECTOR_REQUESTS.select()).all() == []


def test_an_erasure_that_nobody_does_is_one_sentence(state: StateStore) -> None:
    here, _, _ = open_both(state)
    with pytest.raises(TimeoutError, match="erase again"):
        here.erase("principal:1", 0.0)


def test_an_erasure_does_not_wait_for_detectors_that_nobody_runs(
    state: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "AWAY_SECONDS", 0.0)
    here = DetectorRequests(state, Detectors(), lambda: False, is_led=lambda: False)  # type: ignore[arg-type]
    with pytest.raises(DetectorsAwayError, match="The detectors do not run"):
        here.erase("principal:1", 3_600.0)
