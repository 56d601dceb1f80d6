"""The log as a topic of Kafka or what speaks its protocol, for several collectors.

The topic has one partition: batches have one order, and the writer of the tables and the detectors are one process each
anyway. An append is durable when all replicas in sync have it (`acks=all`); the producer is idempotent, so its own
retries put no batch in twice. After an error nobody knows which batches are in the topic. Their sensors send all again,
and the readers drop what came twice (collector/log/shared.py). Cursors are in the state, not in consumer groups: they
have claims, and are written with the lease of whoever reads.

Kafka deletes by its own clock (`retention.ms`), and changes nothing that it holds.
"""

import hashlib
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec
from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition

from collector.core.limits import Limit
from collector.log.base import Append, LogError
from collector.log.cursors import StateCursors, Write
from collector.log.shared import OwnAppends, Placed, Record, SharedLogReader, make_record
from collector.storage.state.store import StateStore

PARTITION: Final = 0
BATCH_BYTES_MAX: Final = 8 * 1024 * 1024  # Of a message; the topic's own limit may be lower.
DELIVERY_SECONDS: Final = 10  # Until then brokers are tried again.
_ANSWER_SECONDS: Final = 10
_MESSAGES_READ: Final = 64
_RECORD_BYTES: Final = 2_000  # Of a batch, before one was seen.
_AHEAD_KILOBYTES: Final = 16 * 1024  # What the client fetches before it is asked.
_ALLOWED: Final = ("security.", "sasl.", "ssl.")  # Settings of the client that a URL may have.
FORM: Final = "kafka://host:port/topic"

_RECORD = msgspec.msgpack.Decoder(Record)


class Topic:
    """What a URL names."""

    def __init__(self, url: str) -> None:
        """Raises LogError; its sentence has nothing of the URL, which may hold a password."""
        self.settings, self.name = _parse(url)
        self.place = f"Kafka at {self.settings['bootstrap.servers']}, topic {self.name}"

    def make_error(self, reason: object) -> LogError:
        return LogError(f"The log in {self.place} cannot be used ({reason}); start it or correct log_url.")


class KafkaLog:
    """Appends to a topic. `append` is for one thread at a time."""

    def __init__(self, url: str, state: StateStore, *, write: Write | None = None) -> None:
        """`state` has the readers' cursors, and `write` begins the transactions that move them. Raises LogError."""
        self._topic = Topic(url)
        self._own = OwnAppends()
        self._lock = threading.RLock()
        self._producer: Producer | None = None
        self._streams: list[KafkaStream] = []  # Of the readers of this process.
        self._ends = KafkaStream(self._topic)
        try:
            self.id = self._find_id()
        except BaseException:
            self.close()
            raise
        self._cursors = StateCursors(state, self.id, write)

    @property
    def limit(self) -> Limit:
        return self._own.limit

    def is_known(self, node: str, boot_id: str, sequence: int) -> bool:
        return self._own.is_known(node, boot_id, sequence)

    def append(self, appends: Sequence[Append]) -> None:
        new = self._own.find_new(appends)
        with self._lock:
            try:
                self._produce([msgspec.msgpack.encode(make_record(one)) for one in new])
            except LogError:
                self._drop_producer()  # What it still holds is sent again by its sensors.
                raise
        self._own.add(new)

    def open_reader(self, name: str) -> SharedLogReader:
        stream = KafkaStream(self._topic)
        self._streams.append(stream)
        return SharedLogReader(stream, self._cursors, name)

    def measure_bytes(self) -> int:
        """0: brokers do not say it to their clients."""
        return 0

    def trim(self) -> int:
        """Nothing: brokers delete by the topic's own settings."""
        return 0

    def erase(self, old: bytes, new: bytes) -> int:
        """0: nothing can be changed."""
        return 0

    def await_stored(self) -> None:
        self._cursors.await_stored(self._ends.find_range()[1])

    @contextmanager
    def hold(self) -> Iterator[None]:
        with self._lock:
            yield

    def close(self) -> None:
        self._drop_producer()
        for stream in (*self._streams, self._ends):
            stream.close()

    def _find_id(self) -> str:
        """Of this topic in its cluster. Raises LogError where it is not one of one partition."""
        try:
            metadata = self._open_producer().list_topics(self._topic.name, timeout=_ANSWER_SECONDS)
        except KafkaException as error:
            raise self._topic.make_error(error.args[0].str()) from None
        found = metadata.topics[self._topic.name]
        count = len(found.partitions)
        if count != 1:
            state = f"has {count} partitions" if count else "is not there"
            raise LogError(
                f"The topic {self._topic.name} {state}; make it with one partition, as docs/use/storage.md says."
            )
        return hashlib.sha256(f"{metadata.cluster_id}/{self._topic.name}".encode()).hexdigest()[:32]

    def _open_producer(self) -> Producer:
        if self._producer is None:
            self._producer = Producer(
                {
                    **self._topic.settings,
                    "acks": "all",
                    "enable.idempotence": True,
                    "compression.type": "lz4",
                    "linger.ms": 0,
                    "message.max.bytes": BATCH_BYTES_MAX,
                    "delivery.timeout.ms": DELIVERY_SECONDS * 1_000,
                }
            )
        return self._producer

    def _drop_producer(self) -> None:
        if self._producer is not None:
            self._producer.purge()
            self._producer.flush(0)
            self._producer = None

    def _produce(self, records: Sequence[bytes]) -> None:
        reasons: list[str] = []

        def note(error: Any, _: object) -> None:
            if error is not None:
                reasons.append(error.str())

        producer = self._open_producer()
        try:
            for record in records:
                producer.produce(self._topic.name, record, partition=PARTITION, on_delivery=note)
        except (BufferError, KafkaException) as error:
            raise self._topic.make_error(error) from None
        if producer.flush(DELIVERY_SECONDS + 1):
            raise self._topic.make_error(f"it took nothing within {DELIVERY_SECONDS} s")
        if reasons:
            raise self._topic.make_error(reasons[0])


class KafkaStream:
    """Reads the records of a topic."""

    def __init__(self, topic: Topic) -> None:
        self._topic = topic
        self._consumer: Consumer | None = None
        self._next = -1  # Offset of what the consumer gives next; -1: it is assigned nowhere.
        self._ahead: deque[Placed] = deque()  # Given, and not fetched yet.
        self._mean_bytes = float(_RECORD_BYTES)

    def find_range(self) -> tuple[int, int]:
        try:
            first, end = self._open().get_watermark_offsets(
                TopicPartition(self._topic.name, PARTITION), timeout=_ANSWER_SECONDS
            )
        except KafkaException as error:
            raise self._topic.make_error(error.args[0].str()) from None
        return int(first), int(end)

    def measure_bytes(self, start: int, end: int) -> int:
        """By what batches took so far."""
        return round((end - start) * self._mean_bytes)

    def fetch(self, offset: int, end: int, limit_bytes: int) -> list[Placed]:
        if (self._ahead[0].offset if self._ahead else self._next) != offset:
            self._seek(offset)
        placed: list[Placed] = []
        size, until = 0, time.monotonic() + _ANSWER_SECONDS
        while size < limit_bytes and (not placed or placed[-1].offset + 1 < end):
            if not self._ahead and not self._poll():
                if placed:
                    break
                if time.monotonic() >= until:
                    raise self._topic.make_error(f"it gave nothing within {_ANSWER_SECONDS} s")
                continue
            if self._ahead[0].offset >= end:
                break
            placed.append(self._ahead.popleft())
            size += placed[-1].size
        if placed:
            self._mean_bytes += (size / len(placed) - self._mean_bytes) / 8
        return placed

    def close(self) -> None:
        """Leave the brokers."""
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None
        self._next = -1
        self._ahead.clear()

    def _open(self) -> Consumer:
        if self._consumer is None:
            self._consumer = Consumer(
                {
                    **self._topic.settings,
                    "group.id": "apidae",  # Required, and not used.
                    "enable.auto.commit": False,
                    "auto.offset.reset": "earliest",
                    "allow.auto.create.topics": False,
                    "queued.max.messages.kbytes": _AHEAD_KILOBYTES,
                    "fetch.message.max.bytes": BATCH_BYTES_MAX,
                }
            )
        return self._consumer

    def _seek(self, offset: int) -> None:
        self._ahead.clear()
        try:
            self._open().assign([TopicPartition(self._topic.name, PARTITION, offset)])
        except KafkaException as error:
            raise self._topic.make_error(error.args[0].str()) from None
        self._next = offset

    def _poll(self) -> bool:
        """Whether something came."""
        try:
            # Without waiting for what is not there: of one that comes the rest is with it.
            first = self._open().consume(1, timeout=1.0)
            found = [*first, *self._open().consume(_MESSAGES_READ, timeout=0)] if first else []
        except KafkaException as error:
            raise self._topic.make_error(error.args[0].str()) from None
        for message in found:
            if (fault := message.error()) is not None:
                self._next = -1
                raise self._topic.make_error(fault.str())
            self._ahead.append(_place(message))
            self._next = self._ahead[-1].offset + 1
        return bool(found)


def _place(message: Message) -> Placed:
    content, offset = message.value() or b"", message.offset()
    assert offset is not None
    try:
        record = _RECORD.decode(content)
    except msgspec.MsgspecError:
        record = None
    return Placed(offset, len(content), record)


def _parse(url: str) -> tuple[Mapping[str, str], str]:
    """The client's settings and the topic."""
    wrong = LogError(f"The log_url is not {FORM}; write it in this form, with several brokers as host:port,host:port.")
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, strict_parsing=True)) if parts.query else {}
    except ValueError:
        raise wrong from None
    user, _, servers = parts.netloc.rpartition("@")
    topic = parts.path.removeprefix("/")
    if not servers or not topic or "/" in topic or not all(name.startswith(_ALLOWED) for name in options):
        raise wrong
    settings = {"bootstrap.servers": servers, "client.id": "apidae", **options}
    if user:
        name, _, password = user.partition(":")
        settings |= {"sasl.username": unquote(name), "sasl.password": unquote(password)}
    return settings, topic
