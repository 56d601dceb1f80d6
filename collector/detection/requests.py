"""What people ask of the detectors, by way of the state where another collector runs them.

A row waits until the holder of the detectors' lease did what it says, and a checkpoint holds it. An answer stays until
whoever asked read it.
"""

import time
from collections.abc import Callable

import msgspec
from sqlalchemy import delete, insert, select, update

from collector.alerting.alert import Alert
from collector.core.feature import Feature, Job, Role
from collector.detection.messages import Erase, Expect
from collector.detection.process import AWAY_SECONDS, DetectorProcess, DetectorsAwayError, describe_level
from collector.storage.state.store import StateStore
from collector.storage.state.tables.detectors import DETECTOR_REQUESTS

_WAIT_SECONDS = 20.0  # Of the holder, for one request.
_LOOK_SECONDS = 0.25
_DECODER = msgspec.msgpack.Decoder(Expect | Erase)


class DetectorRequests:
    """Of one collector. Thread-safe. Methods raise StoreError."""

    def __init__(
        self,
        state: StateStore,
        detectors: DetectorProcess,
        leads: Callable[[], bool],
        is_led: Callable[[], bool] = lambda: True,
    ) -> None:
        """`leads`: whether the detectors of this collector are those that report; `is_led`: whether those of any
        collector are."""
        self._state = state
        self._detectors = detectors
        self._leads, self._is_led = leads, is_led
        self._writes = -1

    @property
    def feature(self) -> Feature:
        """What the collector that detects repeats."""
        return Feature(name="requests to detectors", role=Role.DETECT, jobs=(Job(works=(self.look,)),))

    def expect(self, alert: Alert) -> None:
        """As DetectorProcess.expect."""
        if self._leads():
            self._detectors.expect(alert)
        else:
            self._add(describe_level(0, alert))

    def erase(self, consumer: str, timeout_seconds: float) -> int:
        """As DetectorProcess.erase. Raises TimeoutError, DetectorsAwayError."""
        if self._leads():
            return self._detectors.erase(consumer, timeout_seconds)
        number = self._add(Erase(0, consumer))
        asked = select(DETECTOR_REQUESTS.c.subjects).where(DETECTOR_REQUESTS.c.number == number)
        led_at = time.monotonic()
        until = led_at + timeout_seconds
        while (now := time.monotonic()) < until:
            with self._state.read() as connection:
                subjects = connection.execute(asked).scalar_one_or_none()
            if subjects is not None:
                self._remove(number)
                return int(subjects)
            led_at = now if self._is_led() else led_at
            if now - led_at >= AWAY_SECONDS:
                raise DetectorsAwayError
            time.sleep(_LOOK_SECONDS)
        raise TimeoutError(f"The detectors did not forget a consumer within {timeout_seconds:.0f} s; erase again.")

    def look(self) -> None:
        """Do what waits, as the holder of the lease."""
        writes = self._state.count_writes([DETECTOR_REQUESTS.name])
        if writes == self._writes:
            return
        waiting = select(DETECTOR_REQUESTS).where(DETECTOR_REQUESTS.c.subjects.is_(None))
        with self._state.read() as connection:
            rows = connection.execute(waiting.order_by(DETECTOR_REQUESTS.c.number)).all()
        for row in rows:
            message = _DECODER.decode(row.content)
            subjects = self._detectors.ask(message, _WAIT_SECONDS)
            if isinstance(message, Expect):
                self._remove(row.number)
            else:
                self._answer(row.number, subjects)
        self._writes = writes

    def _add(self, message: Expect | Erase) -> int:
        row = {"content": msgspec.msgpack.encode(message)}
        with self._state.write() as connection:
            made = connection.execute(insert(DETECTOR_REQUESTS).values(row)).inserted_primary_key
        assert made is not None
        return int(made[0])

    def _answer(self, number: int, subjects: int) -> None:
        """Without what was asked for, which names somebody."""
        one = update(DETECTOR_REQUESTS).where(DETECTOR_REQUESTS.c.number == number)
        with self._state.write() as connection:
            connection.execute(one.values(subjects=subjects, content=b""))

    def _remove(self, number: int) -> None:
        with self._state.write() as connection:
            connection.execute(delete(DETECTOR_REQUESTS).where(DETECTOR_REQUESTS.c.number == number))
