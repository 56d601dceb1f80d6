"""Connects enforcement to the sensor: the enforcer, its switch and history, the thread that resets, and the kernel
side.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

from common.figures import Figure
from sensor.agent.wakeup import seconds_left
from sensor.aggregate.rows import RowColumns
from sensor.capture.packets.capture import Capture as PacketCapture
from sensor.core.calls import CallRecord, Exchange
from sensor.core.clock import Clock
from sensor.core.config import EnforcementSettings, SensorSettings
from sensor.ebpf.stops import StopMaps
from sensor.enforce.block import FILE_NAME, Block, CallEnds, Caller, EnforcementReport, KnownBlocks
from sensor.enforce.enforcer import Enforcer
from sensor.enforce.history import CallHistory, SharedConnections
from sensor.enforce.reset import Resetter, StopWatch, find_obstacle
from sensor.enforce.tables import Server, Switch
from sensor.export.state import InstallationKey
from sensor.http.hpack import encode_huffman
from sensor.http.http1.head import RequestHead
from sensor.http.http2.exchange import StreamExchange
from sensor.http.http2.heads import StreamRequest

logger = logging.getLogger(__name__)

SECOND_NS = 1_000_000_000
# Calls that go on are looked at so often while somebody is blocked by name.
LOOK_SECONDS = 0.1
# No connection of HTTP/2 is reset before: by then calls have told whom each carries.
LEARNING_SECONDS = 5.0
_NOT_BY_PACKETS = "calls are seen by system calls here, where nothing can be stopped"


def make_limits(settings: SensorSettings) -> EnforcementSettings:
    """This sensor's own limits; it blocks no trusted proxy."""
    never = dict.fromkeys((*settings.enforcement.never_block_cidrs, *settings.trusted_proxy_cidrs))
    return settings.enforcement.model_copy(update={"never_block_cidrs": tuple(never)})


@runtime_checkable
class Around(Protocol):
    """`sensor.capture.tls.capture`: what sees packets is below it."""

    @property
    def below(self) -> object: ...


class Enforcement:
    """What the sensor's life needs of it. Of the sensor's loop."""

    def __init__(
        self,
        settings: SensorSettings,
        clock: Clock,
        *,
        list_servers: Callable[[], Iterable[Server]],
        list_namespaces: Callable[[], Mapping[int, int]],
        proc: Path,
    ) -> None:
        self._clock = clock
        self._is_enabled = settings.enforcement.enabled
        self._history = CallHistory()
        self._sharing = SharedConnections()
        self._identify: Callable[[RequestHead], Caller] | None = None
        self._packets: PacketCapture | None = None
        self._began_ns = 0
        self._proc, self._list_namespaces = proc, list_namespaces
        self._stops: StopMaps | None = None
        self._enforcer = Enforcer(
            limits=make_limits(settings),
            clock=clock,
            read_switch=Switch(settings.state_dir).read,
            history=self._history,
            list_servers=list_servers,
            known=KnownBlocks(settings.state_dir / FILE_NAME) if settings.enforcement.enabled else None,
        )

    def begin(self, capture: object, key: InstallationKey) -> None:
        """On what captures from now on. Nothing is tried or started where the settings allow no enforcement."""
        self._enforcer.set_key(key.key_id, key.secret)
        if not self._is_enabled:
            return
        if isinstance(capture, Around):
            capture = capture.below
        if not isinstance(capture, PacketCapture):
            self._enforcer.begin(None, None, _NOT_BY_PACKETS)
            return
        if obstacle := find_obstacle():
            self._enforcer.begin(None, None, obstacle)
            return
        self._packets, self._began_ns = capture, self._clock.monotonic_ns()
        self._stops = StopMaps(capture.maps)
        watch = StopWatch(self._stops, Resetter(self._proc, self._list_namespaces), self._clock)
        watch.start()
        self._enforcer.begin(self._stops, watch, "")

    async def keep(self) -> None:
        """Tick in each second, with the turn that ends the one before, for as long as the sensor captures."""
        ticked_second = -1
        while True:
            seconds = LOOK_SECONDS
            try:
                second = self._clock.unix_ns() // SECOND_NS
                if second != ticked_second:
                    ticked_second = second
                    self._enforcer.tick()
                self._look()
                if not self._enforcer.is_naming:
                    seconds = seconds_left(self._clock.unix_ns())
            except Exception:
                # A loop boundary: without a tick the kernel stops nobody any more, within seconds.
                logger.exception("enforcement failed; nobody is stopped until it goes on")
                ticked_second = -1
            await asyncio.sleep(seconds)

    @property
    def is_naming(self) -> bool:
        """Whether somebody is blocked by what calls say of him."""
        return self._enforcer.is_naming

    def end(self) -> None:
        """Lift everything, before the capture closes."""
        self._enforcer.end()
        self._packets = None
        if self._stops is not None:
            self._stops.close()
            self._stops = None

    def set_key(self, key: InstallationKey) -> None:
        """The installation key is another one."""
        self._enforcer.set_key(key.key_id, key.secret)

    def take(self, blocks: tuple[Block, ...], epoch: int) -> None:
        """All that the collector wants stopped."""
        self._enforcer.take(blocks, epoch)

    def on_connection(self, is_connected: bool) -> None:
        """Whether the collector is there."""
        self._enforcer.on_connection(is_connected)

    def figures(self) -> tuple[Figure, ...]:
        """For metrics."""
        return self._enforcer.figures()

    def report(self) -> EnforcementReport:
        """What is in force."""
        return self._enforcer.report()

    def add_rows(self, rows: RowColumns) -> None:
        """Rows leave: the history that shares are measured by."""
        if self._is_enabled:
            self._history.add(rows, self._clock.monotonic_ns())

    @property
    def changes(self) -> int:
        """Of what is in force: after one, calls of HTTP/2 are described anew."""
        return self._enforcer.changes

    def set_identify(self, identify: Callable[[RequestHead], Caller]) -> None:
        """Who presents a head, under the installation key in use."""
        self._identify = identify

    def see(self, exchange: Exchange | StreamExchange, record: CallRecord) -> None:
        """A call was described."""
        if not self._is_enabled:
            return
        is_stream = isinstance(exchange, StreamExchange)
        own = exchange.exchange if isinstance(exchange, StreamExchange) else exchange
        if is_stream:
            self._note(own, record)
        if not self._enforcer.is_naming:
            return
        if is_stream and self._packets is not None and self._enforcer.is_blocked(own, record):
            self._list_open(self._packets, own.connection)  # Who else is on it now.
        is_shared = is_stream and self._is_shared(own)
        coded = self._code(exchange, record) if isinstance(exchange, StreamExchange) else None
        self._enforcer.see(own, record, is_shared=is_shared, is_encrypted=own.is_encrypted, coded=coded)

    def _code(self, exchange: StreamExchange, record: CallRecord) -> bytes | None:
        """The credential as HTTP/2 codes it, where it is a header's whole value; None where no block names the
        caller."""
        request = exchange.call.request
        if not self._enforcer.is_blocked(exchange.exchange, record) or not isinstance(request, StreamRequest):
            return None
        for header in request.head.headers:
            if record.credential and self._enforcer.matches(header.value, record.credential):
                return encode_huffman(header.value)
        return b""

    def is_blocked(self, exchange: Exchange | StreamExchange, record: CallRecord) -> bool:
        """Whether a block names who made this call."""
        own = exchange.exchange if isinstance(exchange, StreamExchange) else exchange
        return self._enforcer.is_naming and self._enforcer.is_blocked(own, record)

    def _look(self) -> None:
        """Through the calls that go on, where somebody is blocked by name: each client of a connection is known before
        one of them has it reset."""
        if self._packets is None or not self._enforcer.is_naming:
            return
        for ends, who in self._list_open(self._packets, None):
            self._enforcer.see(ends, who, is_shared=self._is_shared(ends), is_over=False)

    def _list_open(self, packets: PacketCapture, connection: int | None) -> list[tuple[CallEnds, Caller]]:
        """Calls of HTTP/2 that have not ended, each noted."""
        if self._identify is None:
            return []
        calls = packets.list_open_calls(connection)
        found: list[tuple[CallEnds, Caller]] = [(call.ends, self._identify(call.head)) for call in calls]
        for ends, who in found:
            self._note(ends, who)
        return found

    def _note(self, ends: CallEnds, who: Caller) -> None:
        self._sharing.note(ends.connection, ends.remote_address, who.principal or who.credential)

    def _is_shared(self, ends: CallEnds) -> bool:
        """Who else calls on a connection that was there before is not known at once."""
        is_early = self._clock.monotonic_ns() - self._began_ns < LEARNING_SECONDS * 1e9
        return is_early or self._sharing.is_shared(ends.connection, ends.remote_address)
