"""Connects enforcement to the sensor: the enforcer, its switch and history, the thread that resets, and the kernel
side.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from sensor.aggregate.rows import RowColumns
from sensor.capture.source import Capture
from sensor.core.calls import CallRecord, Credentials, Ends, Exchange
from sensor.core.clock import Clock, seconds_left
from sensor.core.config import CaptureWay, EnforcementSettings, SensorSettings
from sensor.core.keyed import InstallationKey
from sensor.ebpf.enforcement_maps import StopMaps
from sensor.enforce.block import FILE_NAME, KnownBlocks
from sensor.enforce.enforcer import Enforcer
from sensor.enforce.history import CallHistory, SharedConnections
from sensor.enforce.reset import Resetter, StopWatch, find_obstacle
from sensor.enforce.tables import Server, Switch
from sensor.http.hpack import encode_huffman
from sensor.http.http1.head import RequestHead
from sensor.http.http2.exchange import StreamExchange
from sensor.http.http2.heads import StreamRequest

logger = logging.getLogger(__name__)

SECOND_NS = 1_000_000_000
# Calls that go on are looked at so often while somebody is blocked by name.
LOOK_SECONDS = 0.1
# No connection of HTTP/2 is reset before: by then calls have shown which clients each carries.
LEARNING_SECONDS = 5.0
_NOT_BY_PACKETS = "calls are seen by system calls here, where nothing can be stopped"


def make_limits(settings: SensorSettings) -> EnforcementSettings:
    """This sensor's own limits; it blocks no trusted proxy."""
    never = dict.fromkeys((*settings.enforcement.never_block_cidrs, *settings.trusted_proxy_cidrs))
    return settings.enforcement.model_copy(update={"never_block_cidrs": tuple(never)})


class Enforcement:
    """The `enforcer` with what it needs of a sensor. Of the sensor's loop."""

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
        self._identify: Callable[[RequestHead], Credentials] | None = None
        self._capture: Capture | None = None
        self._began_ns = 0
        self._proc, self._list_namespaces = proc, list_namespaces
        self._stops: StopMaps | None = None
        self.enforcer = Enforcer(
            limits=make_limits(settings),
            clock=clock,
            read_switch=Switch(settings.state_dir).read,
            history=self._history,
            list_servers=list_servers,
            known=KnownBlocks(settings.state_dir / FILE_NAME) if settings.enforcement.enabled else None,
        )

    def begin(self, capture: Capture, key: InstallationKey) -> None:
        """On what captures from now on. Nothing is tried or started where the settings allow no enforcement."""
        self.enforcer.set_key(key.key_id, key.secret)
        if not self._is_enabled:
            return
        if capture.way is not CaptureWay.CGROUP_SKB:
            self.enforcer.begin(None, None, _NOT_BY_PACKETS)
            return
        if obstacle := find_obstacle():
            self.enforcer.begin(None, None, obstacle)
            return
        self._capture, self._began_ns = capture, self._clock.monotonic_ns()
        self._stops = StopMaps(capture.maps)
        watch = StopWatch(self._stops, Resetter(self._proc, self._list_namespaces), self._clock)
        watch.start()
        self.enforcer.begin(self._stops, watch, "")

    async def keep(self) -> None:
        """Tick in each second, with the turn that ends the one before, for as long as the sensor captures."""
        ticked_second = -1
        while True:
            seconds = LOOK_SECONDS
            try:
                second = self._clock.unix_ns() // SECOND_NS
                if second != ticked_second:
                    ticked_second = second
                    self.enforcer.tick()
                self._look()
                if not self.enforcer.is_naming:
                    seconds = seconds_left(self._clock.unix_ns())
            except Exception:
                # A loop boundary: without a tick the kernel stops nobody any more, within seconds.
                logger.exception("enforcement failed; nobody is stopped until it goes on")
                ticked_second = -1
            await asyncio.sleep(seconds)

    def end(self) -> None:
        """Lift everything, before the capture closes."""
        self.enforcer.end()
        self._capture = None
        if self._stops is not None:
            self._stops.close()
            self._stops = None

    def add_rows(self, rows: RowColumns) -> None:
        """Rows leave: the history that shares are measured by."""
        if self._is_enabled:
            self._history.add(rows, self._clock.monotonic_ns())

    def set_identify(self, identify: Callable[[RequestHead], Credentials]) -> None:
        """Who presents a head, under the installation key in use."""
        self._identify = identify

    def see(self, exchange: Exchange | StreamExchange, record: CallRecord) -> None:
        """A call was described."""
        if not self._is_enabled:
            return
        who = record.credentials
        if not isinstance(exchange, StreamExchange):
            if self.enforcer.is_naming:
                self.enforcer.see(exchange.ends, who)
            return
        ends = exchange.exchange.ends
        self._note(ends, who)
        if not self.enforcer.is_naming:
            return
        if self._capture is not None and self.enforcer.is_blocked(ends, who):
            self._list_open(self._capture, ends.connection)  # Who else is on it now.
        self.enforcer.see(ends, who, is_shared=self._is_shared(ends), coded=self._code(exchange, who))

    def _code(self, exchange: StreamExchange, who: Credentials) -> bytes | None:
        """The credential as HTTP/2 codes it, where it is a header's whole value; None where no block names the
        caller."""
        request = exchange.call.request
        if not self.enforcer.is_blocked(exchange.exchange.ends, who) or not isinstance(request, StreamRequest):
            return None
        for header in request.head.headers:
            if who.credential and self.enforcer.matches(header.value, who.credential):
                return encode_huffman(header.value)
        return b""

    def is_blocked(self, exchange: StreamExchange, record: CallRecord) -> bool:
        """Whether a block names who made this call."""
        return self.enforcer.is_naming and self.enforcer.is_blocked(exchange.exchange.ends, record.credentials)

    def _look(self) -> None:
        """Through the calls that go on, where somebody is blocked by name: each client of a connection is known before
        one of them has it reset."""
        if self._capture is None or not self.enforcer.is_naming:
            return
        for ends, who in self._list_open(self._capture, None):
            self.enforcer.see(ends, who, is_shared=self._is_shared(ends), is_over=False)

    def _list_open(self, capture: Capture, connection: int | None) -> list[tuple[Ends, Credentials]]:
        """Calls of HTTP/2 that have not ended, each noted."""
        if self._identify is None:
            return []
        calls = capture.list_open_calls(connection)
        found = [(call.ends, self._identify(call.head)) for call in calls]
        for ends, who in found:
            self._note(ends, who)
        return found

    def _note(self, ends: Ends, who: Credentials) -> None:
        self._sharing.note(ends.connection, ends.remote_address, who.principal or who.credential)

    def _is_shared(self, ends: Ends) -> bool:
        """Who else calls on a connection that was there before is not known at once."""
        is_early = self._clock.monotonic_ns() - self._began_ns < LEARNING_SECONDS * 1e9
        return is_early or self._sharing.is_shared(ends.connection, ends.remote_address)
