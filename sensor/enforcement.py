"""Enforcement put together: the enforcer, its switch and history, the thread that resets, and the kernel side of the
capture it works on."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from sensor.aggregation.rows import RowColumns
from sensor.calls import CallRecord, Exchange
from sensor.clock import Clock
from sensor.config import SensorSettings
from sensor.enforce.block import Block
from sensor.enforce.enforcer import Enforcer
from sensor.enforce.history import CallHistory
from sensor.enforce.limits import EnforceLimits
from sensor.enforce.report import EnforcementReport
from sensor.enforce.reset import Resetter, find_obstacle
from sensor.enforce.switch import Switch
from sensor.enforce.tables import Server
from sensor.enforce.watch import StopWatch
from sensor.kernel.capture import Capture as PacketCapture
from sensor.kernel.stops import StopMaps
from sensor.streams.exchange import StreamExchange
from sensor.uplink.state import InstallationKey

logger = logging.getLogger(__name__)

TICK_SECONDS = 1.0
_NOT_BY_PACKETS = "calls are seen by system calls here, where nothing can be stopped"


def make_limits(settings: SensorSettings) -> EnforceLimits:
    """This sensor's own limits."""
    return EnforceLimits(
        is_enabled=settings.is_enforcing,
        never_block=(*settings.never_block_cidrs, *settings.trusted_proxy_cidrs),
        rules_max=settings.enforce_blocks_max_count,
        seconds_max=settings.enforce_max_seconds,
        share_max=settings.enforce_max_call_share,
        ipv4_prefix_min=settings.enforce_ipv4_prefix_min_bits,
        ipv6_prefix_min=settings.enforce_ipv6_prefix_min_bits,
        orphan_seconds=settings.enforce_without_collector_seconds,
    )


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
        self._is_enabled = settings.is_enforcing
        self._history = CallHistory()
        self._proc, self._list_namespaces = proc, list_namespaces
        self._stops: StopMaps | None = None
        self._enforcer = Enforcer(
            limits=make_limits(settings),
            clock=clock,
            read_switch=Switch(settings.state_dir).read,
            history=self._history,
            list_servers=list_servers,
        )

    def begin(self, capture: object, key: InstallationKey) -> None:
        """On what captures from now on. Nothing is tried or started where the settings allow no enforcement."""
        self._enforcer.set_key(key.key_id, key.secret)
        if not self._is_enabled:
            return
        if not isinstance(capture, PacketCapture):
            self._enforcer.begin(None, None, _NOT_BY_PACKETS)
            return
        if obstacle := find_obstacle():
            self._enforcer.begin(None, None, obstacle)
            return
        self._stops = StopMaps(capture.maps)
        watch = StopWatch(self._stops, Resetter(self._proc, self._list_namespaces), self._clock)
        watch.start()
        self._enforcer.begin(self._stops, watch, "")

    async def keep(self) -> None:
        """Tick for as long as the sensor captures."""
        while True:
            try:
                self._enforcer.tick()
            except Exception:
                # A loop boundary: without a tick the kernel stops nobody any more, within seconds.
                logger.exception("enforcement failed; nobody is stopped until it goes on")
            await asyncio.sleep(TICK_SECONDS)

    def end(self) -> None:
        """Lift everything, before the capture closes."""
        self._enforcer.end()
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

    def report(self) -> EnforcementReport:
        """What is in force."""
        return self._enforcer.report()

    def add_rows(self, rows: RowColumns) -> None:
        """Rows leave: the history that shares are measured by."""
        if self._is_enabled:
            self._history.add(rows, self._clock.monotonic_ns())

    def see(self, exchange: Exchange | StreamExchange, record: CallRecord) -> None:
        """A call was described."""
        if not self._enforcer.is_live:
            return
        is_shared = isinstance(exchange, StreamExchange)
        self._enforcer.see(
            exchange.exchange if isinstance(exchange, StreamExchange) else exchange, record, is_shared=is_shared
        )
