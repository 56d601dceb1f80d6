"""A capture file as the sensor of a node: exchanges in, the messages out that a sensor would have sent.

Everything is the sensor's own: filter, describe, schemas, aggregate, convert. The file's times are its clock. It
differs from a running sensor in three ways:

- All bodies are read, and all requests are looked at for attacks, for nobody waits for the processor.
- The installation key is a hash of the file. So two reports of one file are equal, and hashes of two files cannot be
  compared.
- Ends have no names but their addresses.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from common.capture_report import CaptureReportError, CaptureSummary, SentMessage, UnreadPart
from sensor.aggregate.aggregator import SECOND_NS, WINDOW_GRACE_NS, Aggregator
from sensor.aggregate.rows import RowColumns
from sensor.capture.files.flows import CUT_REQUEST, NO_REQUEST
from sensor.capture.files.identity import CaptureIdentity
from sensor.cli.capture_sources import ExchangeSource
from sensor.core.calls import Exchange
from sensor.core.health import AttackAccount
from sensor.core.keyed import KeyedHash
from sensor.describe.attacks.open import open_attacks
from sensor.describe.attacks.ssrf import RequestForgery
from sensor.describe.bodies.reader import BodyReader
from sensor.describe.bodies.sampling import SampleRule
from sensor.describe.describer import Describer, DescribeSettings, Undescribed
from sensor.describe.filter import CallFilter, ExclusionAccount
from sensor.describe.schemas.book import SchemaBook
from sensor.export.convert import BatchConverter
from sensor.export.messages import write_schemas
from sensor.http.http2.exchange import StreamExchange
from sensor.routes.templating import Templater
from sensor.routes.vocabulary import load_vocabulary

NODE: Final = "capture"
_BOOT_ID: Final = "0" * 32
_KEY_ID: Final = 1
_KEY_BYTES: Final = 16
_ALL: Final = 1 << 62  # Bodies and heads are read of every call, and bytes looked at for attacks in each second.
_WINDOW_NS: Final = 10 * SECOND_NS
_SCHEMAS_NS: Final = 60 * SECOND_NS  # From one look at changed schemas to the next.
_UNREPORTED: Final = {
    NO_REQUEST: "Their requests are not in the file: it began later, or lost them.",
    CUT_REQUEST: "Their request heads are not whole in the file.",
}


def refuse_stream(path: Path) -> None:
    """Raises CaptureReportError where a file cannot be read twice."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise CaptureReportError(f"{path} is no regular file, and a report reads it twice; save the capture first")


def hash_file(path: Path) -> bytes:
    """The key of a file's report. Raises CaptureReportError."""
    refuse_stream(path)
    try:
        with path.open("rb") as file:
            return hashlib.blake2b(hashlib.file_digest(file, "sha256").digest(), digest_size=_KEY_BYTES).digest()
    except OSError as error:
        raise CaptureReportError(f"cannot read {path}: {error.strerror}; name a pcap or pcapng file") from error


class CaptureNode:
    """The sensor's side of a report (`CaptureSource`). Mutable state of one run."""

    def __init__(self, source: ExchangeSource, path: Path) -> None:
        """`path`: of the file that `source` reads."""
        key = hash_file(path)
        keyed_hash, vocabulary = KeyedHash(_KEY_ID, key), load_vocabulary()
        identity, rule, attacks = CaptureIdentity(), SampleRule(first_count=_ALL), AttackAccount()
        self._path, self._source = path, source
        self._templater = Templater(vocabulary, keyed_hash)
        self._excluded = ExclusionAccount()
        self._filter = CallFilter(identity, self._excluded)
        self._schemas = SchemaBook(vocabulary, SampleRule(), seed=int.from_bytes(key[:8], "big"))
        self._schemas.hash_by(keyed_hash)
        self._describer = Describer(
            self._templater,
            identity,
            keyed_hash,
            DescribeSettings(),
            BodyReader(rule, self._schemas),
            open_attacks(keyed_hash, bytes_per_second=_ALL, account=attacks),
            self._schemas,
            RequestForgery(keyed_hash, attacks),
        )
        self._aggregator = Aggregator()
        self._converter = BatchConverter(node=NODE, boot_id=_BOOT_ID)
        self._calls = 0
        self._is_begun = False
        self._unreported: dict[str, int] = {}
        self._first_ns = self._now_ns = 0
        self._schemas_ns = 0  # When they were looked at last.

    def read(self) -> Iterator[SentMessage]:
        """All messages in the order of their times."""
        for time_ns, ended in self._source.read():
            yield from self._pass_time(time_ns)
            for exchange in ended:
                self._take(exchange)
        yield from self._send(self._aggregator.flush(), self._now_ns)
        yield from self._send_schemas()

    def reveal(self, hashes: Sequence[int]) -> Mapping[int, str]:
        """Texts of those words that may leave a node."""
        return self._templater.apply_reveal(hashes)

    def count(self) -> CaptureSummary:
        """What was read so far."""
        source = self._source
        return CaptureSummary(
            file_name=os.fsencode(self._path.name).decode(errors="replace"),
            file_bytes=source.size_bytes,
            first_unix_ns=self._first_ns,
            last_unix_ns=self._now_ns,
            packets=source.packets,
            connections=source.connections,
            http_connections=source.http_connections,
            calls=self._calls,
            unread=tuple(part for part in self._list_unread() if part.count),
        )

    def _pass_time(self, now_ns: int) -> Iterator[SentMessage]:
        """What leaves until a time of the file; of times that are out of order the latest is the present."""
        last_ns = self._now_ns
        if not self._is_begun:
            self._is_begun = True
            self._first_ns = self._now_ns = self._schemas_ns = now_ns
            return
        self._first_ns = min(self._first_ns, now_ns)
        if now_ns <= last_ns:
            return
        self._now_ns = now_ns
        if now_ns // SECOND_NS == last_ns // SECOND_NS:
            return
        # A second ended, and a window some time after it: where nothing came for long, both are over.
        due_ns = {
            last_ns // SECOND_NS * SECOND_NS + SECOND_NS,
            last_ns // _WINDOW_NS * _WINDOW_NS + _WINDOW_NS + WINDOW_GRACE_NS,
            now_ns // SECOND_NS * SECOND_NS,
        }
        for time_ns in sorted(due_ns):
            if time_ns <= now_ns:
                yield from self._send(self._aggregator.poll(time_ns), time_ns)
        if now_ns - self._schemas_ns >= _SCHEMAS_NS:
            self._schemas_ns = now_ns
            yield from self._send_schemas()

    def _take(self, exchange: Exchange | StreamExchange | str) -> None:
        if isinstance(exchange, str):
            self._leave_out(exchange)
            return
        if self._filter.find_exclusion(exchange) is not None:
            return
        record = self._describer.describe(exchange)
        if isinstance(record, Undescribed):
            self._leave_out(record.reason)
            return
        self._calls += 1
        for late in self._describer.take_late():
            self._aggregator.add(late)
        self._aggregator.add(record)

    def _leave_out(self, reason: str) -> None:
        self._unreported[reason] = self._unreported.get(reason, 0) + 1

    def _send(self, rows: RowColumns, time_ns: int) -> Iterator[SentMessage]:
        if not len(rows):
            return
        lost = self._source.lost_calls + self._unreported.get(CUT_REQUEST, 0)
        batches = self._converter.convert(
            rows,
            key_id=_KEY_ID,
            policy_epoch=0,
            clock_segment=0,
            lost_calls_total=lost,
            seen_calls_total=lost + self._calls,
        )
        for batch in batches:
            yield SentMessage(sent_unix_ns=time_ns, batch=batch.payload)

    def _send_schemas(self) -> Iterator[SentMessage]:
        for schemas in self._schemas.take(self._now_ns):
            message = write_schemas(schemas).schemas
            yield SentMessage(sent_unix_ns=self._now_ns, schemas=message.SerializeToString())

    def _list_unread(self) -> Iterator[UnreadPart]:
        yield from self._source.list_unread()
        for reason, count in sorted(self._unreported.items()):
            why = _UNREPORTED.get(reason, f"{reason.replace('_', ' ').capitalize()}.")
            yield UnreadPart(what="Transactions without a call", count=count, why=why)
        yield UnreadPart(
            what="Health checks and metrics scrapes",
            count=self._excluded.calls,
            why="They are excluded, as a sensor does.",
        )
