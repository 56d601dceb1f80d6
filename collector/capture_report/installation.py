"""A collector for one capture file: the product's own parts in a directory, driven by the capture's times.

Log, writer, tables, names of endpoints, detectors, risk and alerts are those of a running collector, without its
listeners, processes and threads. Jobs are done in rounds. A round ends `ROUND_SECONDS` of the capture after it began,
and in long captures after a part of what has passed, because a round costs some 0.1 s of a processor.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Final

from collector.alerting.self_monitoring import StorageState
from collector.api.services import Services
from collector.core.config import CollectorSettings, RetentionSettings
from collector.core.rates import Interval
from collector.detection.engine import Engine
from collector.detection.follower import Follower
from collector.detection.framework.windows import LATENESS_SECONDS, ROW_SECONDS
from collector.detection.memory import FileMemory
from collector.detection.messages import Mapped, SignalBatch
from collector.log.base import DETECTORS, STORE, Append
from collector.receiver.reports import REVEAL_LIMIT, RevealedWord
from collector.receiver.schemas import read_schemas
from collector.server.compose import Collector
from collector.server.duties import Duties
from collector.server.failures import first_line
from collector.storage.base import StoreError
from common.capture_report import CaptureReportError, CaptureSource, SentMessage
from common.settings import KubernetesUse

NODE: Final = "capture"
ROUND_SECONDS: Final = 10
ROUND_SECONDS_MAX: Final = 300  # Below the time for which risk counts an endpoint as called just now.
_ROUND_SHARE: Final = 20  # Of what has passed: it grows with the length of the capture.
_ROUND_BYTES: Final = 16 * 1024 * 1024
_FEATURES: Final = ("alerts", "names of endpoints", "risk")
_BOOT_ID: Final = "0" * 32
_KEY_ID: Final = 1
_SETTLE_SECONDS: Final = 30  # After the last packet, when windows have left and rows are in the tables.
_DISK_RESERVE_BYTES: Final = 16_000_000
_NS: Final = 1_000_000_000


class CaptureInstallation:
    """One collector, from its start to `close`. `now` is the present, in unix seconds."""

    def __init__(self, directory: Path, source: CaptureSource, start: float) -> None:
        """Raises StoreError, OSError."""
        self.now = start
        self._source = source
        settings = CollectorSettings(
            data_dir=directory,
            no_auth=True,
            kubernetes=KubernetesUse.OFF,
            disk_reserve_bytes=_DISK_RESERVE_BYTES,
            retention=RetentionSettings(minute_hours=336, hour_days=1_100),
        )
        self.collector = collector = Collector(settings, clock=lambda: self.now)
        try:
            # Rows of an old capture would be deleted at once.
            collector.store.execute("SYSTEM STOP TTL MERGES")
            features = [one for one in collector.features if one.name in _FEATURES]
            assert len(features) == len(_FEATURES), [one.name for one in features]
            collector.tenure.begin(Duties(features), on_lost=lambda: None, on_error=_raise)
            self._jobs = [
                (job, Interval(job.seconds, is_late=job.is_late, clock=lambda: self.now))
                for feature in features
                for job in feature.jobs
            ]
            collector.writer.take_up(collector.log.open_reader(STORE))
            collector.writer.learn_routes()
            mapping: dict[int, str] = {}
            self._reader = collector.log.open_reader(DETECTORS)
            self._follower = Follower(
                reader=self._reader,
                engine=Engine(endpoint_of_route=mapping),
                memory=FileMemory(directory / "detectors"),
                mapping=mapping,
                report=self._take_signals,
                monotonic=lambda: self.now,
            )
            self._follower.resume()
        except BaseException:
            collector.close()
            raise
        self._sequence = 0

    def feed(self, messages: Iterable[SentMessage]) -> None:
        """Take all of them, round by round, and what is due after the last."""
        start = self.now
        waiting: list[SentMessage] = []
        waiting_bytes, due = 0, start + ROUND_SECONDS
        for message in messages:
            sent = message.sent_unix_ns / _NS
            if waiting and (sent >= due or waiting_bytes >= _ROUND_BYTES):
                self._do_round(waiting, min(due, sent))
                waiting, waiting_bytes = [], 0
            if sent >= due:
                length = min(max(ROUND_SECONDS, (sent - start) / _ROUND_SHARE), ROUND_SECONDS_MAX)
                due = sent + length
            waiting.append(message)
            waiting_bytes += len(message.batch) + len(message.schemas)
        last = waiting[-1].sent_unix_ns / _NS if waiting else start
        self._do_round(waiting, last)
        self._finish()

    def build_services(self) -> Services:
        """What the API and the pages use."""
        return self.collector.build_services(lambda: "", lambda _: (b"", ""), StorageState)

    def close(self) -> None:
        """Release everything."""
        self.collector.tenure.stop()
        self.collector.tenure.release()
        self.collector.close()

    def _do_round(self, messages: Iterable[SentMessage], now: float) -> None:
        self.now = max(self.now, now)
        collector = self.collector
        appends = []
        for message in messages:
            if message.schemas:
                sent = message.sent_unix_ns / _NS
                records = read_schemas(message.schemas, node=NODE, boot_id=_BOOT_ID, now_unix_seconds=sent)
                collector.reports.schemas.add(records)
                continue
            self._sequence += 1
            appends.append(
                Append(
                    node=NODE,
                    boot_id=_BOOT_ID,
                    sequence=self._sequence,
                    received_unix_ns=message.sent_unix_ns,
                    payload=message.batch,
                )
            )
        if appends:
            collector.log.append(appends)
        collector.writer.drain()
        collector.reports.flush()
        for job, interval in self._jobs:
            if interval.take():
                for work in job.works:
                    work()
        self._reveal()
        self._detect()

    def _finish(self) -> None:
        """What a running collector would do within minutes of the last packet."""
        collector, engine = self.collector, self._follower.engine
        self.now += _SETTLE_SECONDS
        collector.catalogue.group(is_all=True)
        self._reveal()
        collector.catalogue.group()
        self._detect()
        # Windows of 10 s that have ended close. Longer ones are not over where the file ends.
        signals = engine.advance(engine.watermark + ROW_SECONDS + LATENESS_SECONDS) if engine.watermark else []
        if signals:
            self._take_signals(SignalBatch(self._follower.next_signal, tuple(signals), str(self._follower.learnt_from)))
        for job, _ in self._jobs:
            for work in job.works:
                work()

    def _detect(self) -> None:
        follower = self._follower
        follower.obey(Mapped(self.collector.catalogue.take_changed()))
        while follower.step():
            pass
        self._reader.commit(follower.position)  # The log is not read again.

    def _take_signals(self, batch: SignalBatch) -> None:
        self.collector.take_signals(batch)

    def _reveal(self) -> None:
        """Ask for the words of paths that are hidden, as sensors are asked."""
        collector = self.collector
        asked = sorted(collector.reveals.list_questions())
        found: dict[int, str] = {}
        for start in range(0, len(asked), REVEAL_LIMIT):
            found |= self._source.reveal(asked[start : start + REVEAL_LIMIT])
        time = datetime.fromtimestamp(int(self.now), UTC)
        words = [RevealedWord(hash=word, text=text, key_id=_KEY_ID, time=time) for word, text in found.items()]
        if words:
            collector.reports.add_words(collector.reveals.take(words))
            collector.reports.flush()


def _raise(error: Exception) -> None:
    raise error


def feed_capture(directory: Path, source: CaptureSource) -> "CaptureInstallation":
    """A collector that has seen all of a capture; the caller closes it. Raises CaptureReportError."""
    messages = source.read()
    first = next(messages, None)
    start = (first.sent_unix_ns if first is not None else source.count().last_unix_ns) / _NS
    try:
        installation = CaptureInstallation(directory, source, start)
    except (StoreError, OSError) as error:
        raise CaptureReportError(f"The report could not be begun: {first_line(error)}") from error
    try:
        installation.feed(chain([first] if first is not None else [], messages))
    except BaseException as error:
        installation.close()
        if isinstance(error, (StoreError, OSError)):
            raise CaptureReportError(f"The report could not be made: {first_line(error)}") from error
        raise
    return installation
