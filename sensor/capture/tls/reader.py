"""Turns the plain text of TLS into exchanges: events of bpf/tls.c, read as what processes read and wrote.

`sensor.capture.syscalls.streams` does the reading, with positions that count plain bytes. This module adds what is
special to TLS. Where both ends of a connection are read on this node, only the server's end reports the call. It also
records what was read of each port, for the coverage.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from msgspec.structs import replace

from common.figures import Figure
from sensor.capture.syscalls.local_clients import LocalClients
from sensor.capture.syscalls.streams import Conversations, Verdict, is_loopback, unpack_event
from sensor.capture.tls.bodies import BodyMeter
from sensor.capture.tls.split import PortReading
from sensor.core.calls import Exchange, Role
from sensor.core.health import TLS_STAGE, StageCounter, take_each
from sensor.coverage.unread import Unread
from sensor.ebpf.abi import Binding, Library, Moved, SyscallEvent, SyscallKind
from sensor.http.http2.exchange import StreamExchange
from sensor.http.http2.heads import UNKNOWN_PATH, StreamRequest
from sensor.http.http2.streams import StreamCall
from sensor.http.websocket import is_client_frame

logger = logging.getLogger(__name__)

# Ports of which calls are counted, as in the kernel.
MAX_PORTS: Final = 8_192
LIBRARY_NAMES: Final = {
    Library.OPENSSL: "OpenSSL",
    Library.GNUTLS: "GnuTLS",
    Library.GO: "Go crypto/tls",
    Library.BORING: "BoringSSL",
    Library.RUSTLS: "rustls",
    Library.JAVA: "Java",
}

Exchanges = list[Exchange | StreamExchange]


class TlsReader:
    """Mutable state between events. `refuse` reports to the kernel that a session is not, or no longer, HTTP."""

    def __init__(
        self,
        *,
        to_unix_ns: Callable[[int], int],
        refuse: Callable[[SyscallEvent, Verdict], None],
        bodies: BodyMeter | None = None,
        may_read: Callable[[int, int], bool] = lambda _pid, _cgroup_id: True,
        was_closing: Callable[[int, int], bool] = lambda _pid, _time_ns: False,
        uptime: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """`bodies` says how much of them is kept for reading; without it nothing is. `may_read`: whether what came of a
        process in a cgroup may be used; `was_closing`: whether only a part was seen of a process at some time, so that
        its calls of then are estimated. `uptime`: seconds since boot."""
        self._may_read = may_read
        self._was_closing = was_closing
        self._uptime = uptime
        self.unwanted_events = 0  # Not looked at, for nothing of their process may be read.
        self.stage = StageCounter(TLS_STAGE)
        self._refuse = refuse
        self._bodies = bodies
        find_room = bodies.find_room if bodies is not None else None
        self._conversations = Conversations(
            to_unix_ns=to_unix_ns, stage=self.stage, refuse=refuse, find_room=find_room, is_encrypted=True
        )
        self._local = LocalClients(
            self._conversations.leave, is_served_here=self._is_served_here, on_forgotten=self._forget_session
        )
        self._ports: dict[tuple[int, int], PortReading] = {}
        self._port_numbers: set[int] = set()  # Of `_ports`.
        # Library and process of sessions of which no call was reported yet.
        self._uncounted: dict[int, tuple[str, int]] = {}
        self.bound: dict[Binding, int] = dict.fromkeys((Binding.LAST, Binding.NEXT, Binding.DATA, Binding.NESTED), 0)
        self.unbound_calls = 0  # Calls reported without the addresses of their socket.
        self.calls_without_path = 0  # Of HTTP/2: the header table of their connection was not seen from its start.

    @property
    def local_clients(self) -> int:
        """Calls left to their server's end."""
        return self._local.calls

    @property
    def unread(self) -> Unread:
        """What clients sent that no call explains."""
        return self._conversations.unread.totals

    def figures(self) -> tuple[Figure, ...]:
        """For metrics: of the connections."""
        return self._conversations.figures("tls_", "tls")

    def take(self, records: Iterable[memoryview | Moved]) -> Exchanges:
        """Exchanges that these records of the ring completed, in order; also events that are unpacked already."""
        out: Exchanges = []
        take_each(records, lambda left: self._take_all(left, out), logger)
        return self._mark_encrypted(out)

    def _take_all(self, records: Iterable[memoryview | Moved], out: Exchanges) -> None:
        for record in records:
            event, data = record if isinstance(record, tuple) else unpack_event(record)
            if not self._may_read(event.process, event.cgroup_id):
                self.unwanted_events += 1
                continue
            if self._local.is_left(event):
                continue
            if event.kind <= SyscallKind.WRITE and self._was_closing(event.process, event.time_ns):
                continue
            if event.kind == SyscallKind.OTHER:
                # Nobody looked when it was upgraded.
                if event.family and is_client_frame(data):
                    self._refuse(event, Verdict.UPGRADED)
                continue
            if self._bodies is not None:
                self._bodies.now_ns = event.time_ns
            if self._local.note_ends(event):
                self._note_session(event)
            told: Exchanges = []
            self._conversations.take_event(event, data, told)
            out += self._local.drop_left(told)

    def poll(self, now_ns: int) -> Exchanges:
        """What waited too long, and early halves of calls that last."""
        return self._mark_encrypted(self._local.drop_left(self._conversations.poll(now_ns)))

    @property
    def ports(self) -> Mapping[tuple[int, int], PortReading]:
        """What was read, by cgroup and port."""
        return self._ports

    def read_port(self, cgroup_id: int, port: int) -> PortReading | None:
        """What was read of it; None where nothing was."""
        return self._ports.get((cgroup_id, port))

    def _note_session(self, event: SyscallEvent) -> None:
        """Once it is known which socket it is of."""
        self._uncounted[event.socket] = (LIBRARY_NAMES.get(Library(event.library), ""), event.process)
        for way in self.bound:
            self.bound[way] += bool(event.bound & way)

    def _forget_session(self, session: int) -> None:
        self._uncounted.pop(session, None)

    def _mark_encrypted(self, exchanges: Exchanges) -> Exchanges:
        return [
            StreamExchange(self._mark(one.exchange, has_path=_has_path(one.call)), one.call)
            if isinstance(one, StreamExchange)
            else self._mark(one)
            for one in exchanges
        ]

    def _mark(self, exchange: Exchange, *, has_path: bool = True) -> Exchange:
        self._note_call(exchange, has_path)
        return replace(exchange, ends=replace(exchange.ends, is_encrypted=True))

    def _note_call(self, exchange: Exchange, has_path: bool) -> None:
        if not has_path:
            self.calls_without_path += exchange.figures.calls
        if not exchange.ends.remote_port:
            self.unbound_calls += exchange.figures.calls
        if exchange.ends.local_port and exchange.ends.role is Role.SERVER:
            self._count(exchange, has_path)

    def _is_served_here(self, exchange: Exchange) -> bool:
        """Of a server that is read in turns nobody looks at some connections; their calls are estimated."""
        return exchange.ends.remote_port in self._port_numbers and is_loopback(exchange.ends.remote_address)

    def _count(self, exchange: Exchange, has_path: bool) -> None:
        key = (exchange.ends.cgroup_id, exchange.ends.local_port)
        port = self._ports.get(key)
        if port is None:
            if len(self._ports) >= MAX_PORTS:
                return
            port = self._ports[key] = PortReading()
            self._port_numbers.add(exchange.ends.local_port)
        port.calls += exchange.figures.calls
        if not has_path:
            port.without_path += exchange.figures.calls
        met = self._uncounted.pop(exchange.ends.connection, None)
        if met is not None:
            library, process = met
            port.connections += 1
            port.libraries.add(library)
            port.meet(process, self._uptime())


def _has_path(call: StreamCall) -> bool:
    return not isinstance(call.request, StreamRequest) or call.request.head.path != UNKNOWN_PATH
