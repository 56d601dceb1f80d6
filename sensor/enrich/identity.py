"""Names of both ends of a call on a plain host: the service that answers and the workload that asks.

Takes a cgroup id, a port and addresses from the kernel; gives `Service`, client workload and `Hop`. Precedence:
systemd unit, then container, then program. A cgroup that names one decides at once; else (the root, a slice, a socket
unit, a host with cgroups in v1) the listener's process is found and asked for its cgroup now, and last for its
program.

The hot path is one dictionary: under 0.5 us a call. A name, once given to (cgroup, port, address), stays until
another process listens there.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from sensor.calls import Hop, Service, WorkloadKind
from sensor.enrich.cgroup import NOBODY, CgroupOwner, OwnerKind, own_path
from sensor.enrich.cgroup_tree import CgroupTree
from sensor.enrich.clients import ClientTable
from sensor.enrich.listeners import Listener, ListenerTable
from sensor.enrich.processes import Process, ProcessTable
from sensor.enrich.proxies import is_forwarding
from sensor.enrich.sockets import NodeSockets

# Listening ends remembered. Ends are the node's own ports and addresses; a host that answers on a whole network has
# many. When the table is full it is emptied and filled again from the calls that come.
MAX_ENDS = 16_384
MAX_CLIENT_CGROUPS = 65_536
# Until the next try for an end that nothing names: doubled after each, so that an end of which nothing can be read
# costs nothing.
FIRST_RETRY_SECONDS = 0.25
MAX_RETRY_SECONDS = 64.0
UNKNOWN_WORKLOAD = "unknown"
_SOCKET_UNIT = ".socket"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Name:
    """What a service is called and who said so."""

    workload: str
    kind: WorkloadKind
    process: tuple[int, int] | None = (
        None  # (pid, start ticks) of the process that was asked; None where its cgroup told.
    )
    hop: Hop = Hop.ENDPOINT


_UNKNOWN = _Name(workload=UNKNOWN_WORKLOAD, kind=WorkloadKind.UNSPECIFIED, hop=Hop.UNSPECIFIED)

End = tuple[int, int, str]


class NodeIdentity:
    """Implements the Identity that `sensor.describe` asks. Thread-safe: one thread asks, another calls `refresh`."""

    def __init__(
        self,
        *,
        cluster: str,
        node: str,
        cgroups: CgroupTree,
        listeners: ListenerTable,
        sockets: NodeSockets,
        processes: ProcessTable,
        name_container: Callable[[str], str],
        clock: Callable[[], float],
    ) -> None:
        """`node` becomes the host name of its services; `name_container` maps a container id to a name; `clock`:
        monotonic s.
        """
        self._cluster = cluster
        self._node = node
        self._cgroups = cgroups
        self._listeners = listeners
        self._clients = ClientTable(sockets, processes, name_process=self.name_process, clock=clock)
        self._name_container = name_container
        self._clock = clock
        self._servers: dict[End, tuple[Service, Hop]] = {}
        self._names: dict[End, _Name] = {}
        # Time of the next try, seconds until the one after, and what is told meanwhile.
        self._retries: dict[End, tuple[float, float, tuple[Service, Hop]]] = {}
        self._client_names: dict[int, str] = {}
        self._lock = threading.Lock()

    def server(self, cgroup_id: int, local_port: int, local_address: str) -> tuple[Service, Hop]:
        """The service that answers at a local end, and whether it answers itself or only passes calls on.

        0.2 us; the first call to an end 0.1 ms, or 30 ms where processes are read.
        """
        try:
            return self._servers[cgroup_id, local_port, local_address]
        except KeyError:
            return self._add((cgroup_id, local_port, local_address))

    def service(self, cgroup_id: int, local_port: int, local_address: str) -> Service:
        """The service of `server`."""
        return self.server(cgroup_id, local_port, local_address)[0]

    def hop(self, cgroup_id: int, local_port: int, local_address: str) -> Hop:
        """The hop of `server`."""
        return self.server(cgroup_id, local_port, local_address)[1]

    def client_workload(self, peer_cgroup_id: int, remote_address: str, remote_port: int) -> str:
        """The workload of a client on this node; empty where it is elsewhere (id 0) or not known. 0.2 us."""
        if not peer_cgroup_id:
            return ""
        name = self._client_names.get(peer_cgroup_id)
        if name is None:
            name = self._name_client_cgroup(peer_cgroup_id)
        if name:
            return name
        return self._clients.find(remote_address, remote_port)

    def is_one_workload(self, cgroup_id: int) -> bool:
        """Whether a cgroup names the workload of all its processes; else `client_workload` goes by the connection."""
        name = self._client_names.get(cgroup_id)
        return bool(self._name_client_cgroup(cgroup_id) if name is None else name)

    def listener_service(self, listener: Listener) -> Service:
        """The service of a listening socket, called or not; for the coverage."""
        end = (listener.cgroup_id, listener.port, listener.address)
        known = self._servers.get(end)
        return known[0] if known else self._build_service(end, self._resolve(end, listener))

    def client_service(self, cgroup_id: int) -> Service:
        """The workload of a client's cgroup as a service of port 0; for the coverage of calls that leave the node."""
        owner = own_path(self._cgroups.path(cgroup_id) or "")
        name = _UNKNOWN if owner.kind is OwnerKind.NONE else self._name_owner(owner, None, is_from_process=False)
        return self._build_service((cgroup_id, 0, ""), name)

    def process_service(self, process: Process | None) -> Service:
        """The service of a process that is not called by port, of port 0."""
        return self._build_service((0, 0, ""), _UNKNOWN if process is None else self._name_process(process))

    @property
    def unknown_service(self) -> Service:
        """What stands for a service that nothing names, of port 0; for the coverage."""
        return self._build_service((0, 0, ""), _UNKNOWN)

    def name_process(self, process: Process) -> str:
        """The workload of a process: unit, container or program."""
        return self._name_process(process).workload

    def refresh(self) -> None:
        """Reads cgroups and listeners anew, and renames the ends at which another process listens now.

        For a timer of 15 s.
        """
        self._cgroups.walk()
        self._listeners.refresh()
        self._clients.forget()
        with self._lock:
            self._client_names = {}
            for end, name in list(self._names.items()):
                listener = self._listeners.known(*end)
                if listener is None or listener.process is None or name.process is None:
                    continue
                if name.process != (listener.process.pid, listener.process.start_ticks):
                    self._put(end, self._resolve(end, listener))

    def _add(self, end: End) -> tuple[Service, Hop]:
        """Names an end at its first call. An end that nothing names is tried again later."""
        with self._lock:
            waiting = self._retries.get(end)
            if waiting is not None and self._clock() < waiting[0]:
                return waiting[2]
            name = self._resolve(end, self._listeners.find(*end))
            if name is _UNKNOWN:
                rest_seconds = waiting[1] if waiting else FIRST_RETRY_SECONDS
                if len(self._retries) >= MAX_ENDS:
                    self._retries.clear()
                unknown = (self._build_service(end, name), name.hop)
                next_rest_seconds = min(2 * rest_seconds, MAX_RETRY_SECONDS)
                self._retries[end] = (self._clock() + rest_seconds, next_rest_seconds, unknown)
                return unknown
            self._retries.pop(end, None)
            if len(self._names) >= MAX_ENDS:
                self._servers, self._names = {}, {}
            return self._put(end, name)

    def _put(self, end: End, name: _Name) -> tuple[Service, Hop]:
        server = (self._build_service(end, name), name.hop)
        self._names[end], self._servers[end] = name, server
        return server

    def _build_service(self, end: End, name: _Name) -> Service:
        return Service(
            cluster=self._cluster,
            namespace="",
            workload=name.workload,
            workload_kind=name.kind,
            host_name=self._node,
            port=end[1],
        )

    def _resolve(self, end: End, listener: Listener | None) -> _Name:
        path = self._cgroups.path(end[0])
        owner = own_path(path) if path else NOBODY
        process = listener.process if listener else None
        if owner.kind is not OwnerKind.NONE and not owner.name.endswith(_SOCKET_UNIT):
            return self._name_owner(owner, process, is_from_process=False)
        if process is not None:
            return self._name_process(process)
        return self._name_owner(owner, None, is_from_process=False) if owner.kind is not OwnerKind.NONE else _UNKNOWN

    def _name_process(self, process: Process) -> _Name:
        """By the cgroup in which the process is now, of v2 and then of v1, and last by its program."""
        for path in (process.cgroup_path, *process.cgroup_v1_paths):
            owner = own_path(path)
            if owner.kind is not OwnerKind.NONE:
                return self._name_owner(owner, process, is_from_process=True)
        return _Name(
            workload=process.name,
            kind=WorkloadKind.PROCESS,
            process=(process.pid, process.start_ticks),
            hop=_hop_of(process),
        )

    def _name_owner(self, owner: CgroupOwner, process: Process | None, *, is_from_process: bool) -> _Name:
        is_container = owner.kind is OwnerKind.CONTAINER
        return _Name(
            workload=self._name_container(owner.name) if is_container else owner.name,
            kind=WorkloadKind.CONTAINER if is_container else WorkloadKind.SYSTEMD_UNIT,
            process=(process.pid, process.start_ticks) if process and is_from_process else None,
            hop=_hop_of(process),
        )

    def _name_client_cgroup(self, cgroup_id: int) -> str:
        """The name of a client's cgroup; empty where it names nobody and the process has to be asked."""
        path = self._cgroups.path(cgroup_id)
        if path is None:
            return ""
        owner = own_path(path)
        name = "" if owner.kind is OwnerKind.NONE else self._name_owner(owner, None, is_from_process=False).workload
        if len(self._client_names) < MAX_CLIENT_CGROUPS:
            self._client_names[cgroup_id] = name
        return name


def _hop_of(process: Process | None) -> Hop:
    if process is None:
        return Hop.ENDPOINT
    return Hop.PROXY if is_forwarding(process.executable) else Hop.ENDPOINT
