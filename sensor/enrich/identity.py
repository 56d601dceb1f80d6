"""Names both ends of a call: the service that answers and the workload that calls.

Takes a cgroup id, a port and addresses from the kernel, and gives `Service`, client workload and `Hop`. A Kubernetes
Pod comes first, then a systemd unit, a container, and the program. A cgroup that names one of these decides at once.
For other cgroups (the root, a slice, a socket unit, a container runtime's unit, cgroups v1) the listener's process is
found and asked for its cgroup, and last for its program.

The hot path is one dictionary: under 0.5 us a call. A name given to (cgroup, port, address) stays until another process
listens there, or until Kubernetes identifies the container. `FormerNames` keeps what workloads were called before that,
so that earlier calls get the new name.

Programs that only forward calls are a hop and never an endpoint, because their answer is another service's. Web servers
that can do both (nginx, httpd, caddy, lighttpd) do not count as such on a plain host. No evidence on the node separates
a static file from a forwarded call, and an endpoint shown twice is better than one not shown.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from common.bounded import BoundedDict
from sensor.core.attachments import PodConsent
from sensor.core.calls import Hop, Service, WorkloadKind
from sensor.core.read_tls import ReadTls, TlsChoice
from sensor.enrich.cgroup import NOBODY, RUNTIME_UNITS, CgroupOwner, OwnerKind, find_outer_pod, own_path
from sensor.enrich.cgroup_tree import CgroupTree
from sensor.enrich.clients import ClientTable
from sensor.enrich.listeners import Listener, ListenerTable
from sensor.enrich.processes import Process, ProcessTable
from sensor.enrich.sockets import KernelSockets

if TYPE_CHECKING:  # Its client's packages take 12 MB.
    from sensor.enrich.kubernetes.cluster import Cluster

# Containers that were called by their ids; the first ones are forgotten, and their calls keep the id.
FORMER_NAMES_MAX: Final = 1_000


class FormerNames:
    """Thread-safe: one thread renames, another reports."""

    def __init__(self) -> None:
        self._workloads: BoundedDict[str, tuple[str, str]] = BoundedDict(FORMER_NAMES_MAX)
        self._lock = threading.Lock()

    def add(self, former: str, *, namespace: str, workload: str) -> None:
        """What was called `former` is this workload."""
        with self._lock:
            self._workloads[former] = namespace, workload

    def by_workload(self) -> dict[tuple[str, str], tuple[str, ...]]:
        """Former names by namespace and workload."""
        found: dict[tuple[str, str], list[str]] = {}
        with self._lock:
            for former, place in self._workloads.items():
                found.setdefault(place, []).append(former)
        return {place: tuple(names) for place, names in found.items()}


# Executable's file name: where it is documented to do nothing but forward.
FORWARDING_PROGRAMS: dict[str, str] = {
    "docker-proxy": "moby cmd/docker-proxy: the userland proxy of a published port",
    "cilium-envoy": "cilium.io, the node's proxy",
    "envoy": "envoyproxy.io",
    "haproxy": "haproxy.org",
    "linkerd2-proxy": "linkerd.io, the sidecar",
    "pilot-agent": "istio.io, the sidecar's agent and probe forwarder",
    "rootlesskit": "github.com/rootless-containers/rootlesskit, port driver",
    "slirp4netns": "github.com/rootless-containers/slirp4netns",
    "pasta": "passt.top, rootless podman",
    "pasta.avx2": "passt.top, rootless podman",
    "rootlessport": "podman's rootless port forwarder",
    "socat": "socat(1)",
    "systemd-socket-proxyd": "systemd-socket-proxyd(8)",
    "traefik": "traefik.io",
    "varnishd": "varnish-cache.org",
    "ssh": "ssh(1) -L",
    "sshd": "ssh(1) -R",
    "sshd-session": "ssh(1) -R, OpenSSH 9.8 and later",
    "kubectl": "kubectl port-forward and kubectl proxy",
    "ztunnel": "istio.io, ambient: the node's proxy",
}


def is_forwarding(executable: str) -> bool:
    """Whether the program of this file name only passes calls on."""
    return executable in FORWARDING_PROGRAMS


# Listening ends remembered. Ends are the node's own ports and addresses; a host that answers on a whole network has
# many. When the table is full it is emptied and filled again from the calls that come.
MAX_ENDS = 16_384
MAX_CLIENT_CGROUPS = 65_536
# Until the next try for an end that nothing names: doubled after each, so that an end of which nothing can be read
# costs nothing.
FIRST_RETRY_SECONDS = 0.25
MAX_RETRY_SECONDS = 64.0
UNKNOWN_WORKLOAD = "unknown"
# Last part of the cgroup's path where nothing but the kubelet runs: its unit (in kind's nodes too), and Talos' name.
# k3s, rke2 and others run the whole control plane in one unit, so there a probe is known by its head only.
KUBELET_CGROUPS = frozenset(("kubelet.service", "kubelet"))
_SOCKET_UNIT = ".socket"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Name:
    """What a service is called and who said so."""

    workload: str
    kind: WorkloadKind
    process: tuple[int, int] | None = (
        None  # (pid, start ticks) of the process that was asked; None where its cgroup was enough.
    )
    hop: Hop = Hop.ENDPOINT
    namespace: str = ""
    left_out: str = ""  # Why its calls are not reported; empty where they are.
    owner: CgroupOwner | None = None  # Of a container or Pod: by whom its name may change.


_UNKNOWN = _Name(workload=UNKNOWN_WORKLOAD, kind=WorkloadKind.UNSPECIFIED, hop=Hop.UNSPECIFIED)

End = tuple[int, int, str]


class NodeIdentity:
    """Implements the Identity that `sensor.describe.describer` asks. Thread-safe: one thread asks, another calls
    `refresh`."""

    def __init__(
        self,
        *,
        cluster: str,
        node: str,
        cgroups: CgroupTree,
        listeners: ListenerTable,
        sockets: KernelSockets,
        processes: ProcessTable,
        name_container: Callable[[str, int | None], str],
        clock: Callable[[], float],
        pods: "Cluster | None" = None,
    ) -> None:
        """`node` becomes the host name of its services; `name_container` maps a container's id and user to a name;
        `clock`: monotonic s; without `pods` there is no Kubernetes.
        """
        self._cluster = cluster
        self._node = node
        self._cgroups = cgroups
        self._listeners = listeners
        self._clients = ClientTable(sockets, processes, name_process=self.name_process, clock=clock)
        self._name_container = name_container
        self.former_names = FormerNames()
        self._clock = clock
        self._pods = pods
        self._pods_generation = 0
        self._left_out: dict[int, str] = {}  # Why a cgroup's calls are not reported, by id.
        self._servers: dict[End, tuple[Service, Hop]] = {}
        self._names: dict[End, _Name] = {}
        # Time of the next try, seconds until the one after, and what is reported meanwhile.
        self._retries: BoundedDict[End, tuple[float, float, tuple[Service, Hop]]] = BoundedDict(MAX_ENDS)
        # Of a cgroup, and whether it names all its processes.
        self._client_names: dict[int, tuple[str, bool]] = {}
        self._proxies: dict[int, str] = {}  # Uid of the Pod by cgroup, of proxies that call for others.
        self._pod_uids: BoundedDict[int, str] = BoundedDict(MAX_CLIENT_CGROUPS)
        self._lock = threading.Lock()

    def server(self, cgroup_id: int, local_port: int, local_address: str) -> tuple[Service, Hop]:
        """The service that answers at a local end, and whether it answers itself or only passes calls on.

        0.2 us; the first call to an end 0.1 ms, or 30 ms where processes are read.
        """
        try:
            return self._servers[cgroup_id, local_port, local_address]
        except KeyError:
            return self._add((cgroup_id, local_port, local_address))

    def client_workload(
        self, peer_cgroup_id: int, remote_address: str, remote_port: int, server_cgroup_id: int = 0
    ) -> str:
        """The workload of a client on this node, of a Pod as `namespace/workload`; empty where it is elsewhere (id 0)
        or not known. A proxy beside the workload, or one of the node,
        calls for who holds the address; nobody is known of calls that it passes on into its own Pod, which is that of
        `server_cgroup_id`. 0.2 us."""
        if not peer_cgroup_id:
            return ""
        name, is_certain = self._client_names.get(peer_cgroup_id) or self._name_client_cgroup(peer_cgroup_id)
        if is_certain:
            return name
        proxied = self._proxies.get(peer_cgroup_id)
        if proxied is None or self._pods is None:
            return self._clients.find(peer_cgroup_id, remote_address, remote_port) or name
        if server_cgroup_id and proxied == self._find_pod(server_cgroup_id):
            return ""
        now_ns = time.time_ns()
        return self._pods.address_workload(remote_address, now_ns, now_ns)

    @property
    def is_naming_addresses(self) -> bool:
        """Whether `address_workload` may ever name anybody."""
        return self._pods is not None

    def address_workload(self, address: str, first_ns: int, last_ns: int) -> str:
        """The workload of a client without a cgroup, by its address from `first_ns` to `last_ns` (unix ns): of one that
        called through a Service address. Empty where it is on another node or not certain. 0.4 us."""
        return "" if self._pods is None else self._pods.address_workload(address, first_ns, last_ns)

    def is_one_workload(self, cgroup_id: int) -> bool:
        """Whether a cgroup names the workload of all its processes; else `client_workload` goes by the connection."""
        return (self._client_names.get(cgroup_id) or self._name_client_cgroup(cgroup_id))[1]

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

    def pod_workload(self, cgroup_id: int) -> str:
        """`namespace/workload` of a cgroup of a Pod that Kubernetes knows; empty for others. For consent: nobody in a
        Pod has a say in which one it is."""
        uid = find_outer_pod(self._cgroups.path(cgroup_id) or "")
        return self._pods.pod_workload(uid) if self._pods is not None and uid else ""

    def find_tls_choice(self, path: str | None, setting: ReadTls) -> TlsChoice:
        """How much is read of the TLS of processes in a cgroup, by its path; None: it is not known. As of
        `pod_workload`, nobody in a Pod has a say in whose annotation holds."""
        uid = find_outer_pod(path or "")
        if self._pods is None or (path is not None and not uid):
            return TlsChoice(mode=setting)
        return self._pods.find_tls_choice(uid, setting)

    def cgroup_path(self, cgroup_id: int) -> str | None:
        """Of a cgroup by its id; None where it is not known."""
        return self._cgroups.path(cgroup_id)

    @property
    def consent_generation(self) -> int:
        """Rises whenever `find_consent` may give something else."""
        return self._pods.consent_generation if self._pods is not None else 0

    def find_consent(self, cgroup_id: int) -> PodConsent | None:
        """What the Pod of a cgroup says of the Java agent; None of others. As `pod_workload`, by what nobody in the Pod
        has a say in."""
        uid = find_outer_pod(self._cgroups.path(cgroup_id) or "")
        return self._pods.find_consent(uid) if self._pods is not None and uid else None

    def process_service(self, process: Process | None) -> Service:
        """The service of a process that is not called by port, of port 0."""
        return self._build_service((0, 0, ""), _UNKNOWN if process is None else self._name_process(process))

    @property
    def unknown_service(self) -> Service:
        """What stands for a service that nothing names, of port 0; for the coverage."""
        return self._build_service((0, 0, ""), _UNKNOWN)

    def name_process(self, process: Process) -> str:
        """The workload of a process: `namespace/workload` of a Pod, else unit, container or program."""
        return _place(self._name_process(process))

    def refresh(self) -> None:
        """Reads cgroups and listeners anew, and renames the ends at which another process listens now.

        For a timer of 15 s.
        """
        self._cgroups.walk()
        self._listeners.refresh()
        self._clients.forget()
        with self._lock:
            self._client_names, self._left_out, self._proxies = {}, {}, {}
            for end, name in list(self._names.items()):
                listener = self._listeners.known(*end)
                if listener is None or listener.process is None or name.process is None:
                    continue
                if name.process != (listener.process.pid, listener.process.start_ticks):
                    self._put(end, self._resolve(end, listener))

    def rename(self) -> bool:
        """Takes up what Kubernetes said since the last time; says whether it said anything. For a timer of a second:
        0.1 us where it did not."""
        pods = self._pods
        if pods is None or pods.generation == self._pods_generation:
            return False
        with self._lock:
            self._pods_generation = pods.generation
            self._client_names, self._left_out, self._proxies = {}, {}, {}
            for end, name in list(self._names.items()):
                if name.owner is None:
                    continue
                listener = self._listeners.known(*end)
                process = listener.process if listener else None
                renamed = self._name_owner(name.owner, process, is_from_process=name.process is not None)
                if renamed != name:
                    self._put(end, renamed)
                    if name.kind is WorkloadKind.CONTAINER and renamed.kind is WorkloadKind.KUBERNETES:
                        self.former_names.add(name.workload, namespace=renamed.namespace, workload=renamed.workload)
        return True

    @property
    def is_leaving_out(self) -> bool:
        """Whether any workload of this node may be switched off."""
        return self._pods is not None

    def why_left_out(self, cgroup_id: int) -> str:
        """Why what a cgroup serves and calls is not reported; empty where it is. 0.1 us."""
        if self._pods is None:
            return ""
        reason = self._left_out.get(cgroup_id)
        if reason is None:
            pod = self._pods.name(own_path(self._cgroups.path(cgroup_id) or ""))
            reason = pod.left_out if pod else ""
            if len(self._left_out) < MAX_CLIENT_CGROUPS:
                self._left_out[cgroup_id] = reason
        return reason

    def why_end_left_out(self, cgroup_id: int, local_port: int, local_address: str) -> str:
        """The same of an end that was named, by its listener's process too."""
        name = self._names.get((cgroup_id, local_port, local_address))
        return name.left_out if name else ""

    def is_kubelet(self, cgroup_id: int) -> bool:
        """Whether nothing but the kubelet is in a cgroup."""
        path = self._cgroups.path(cgroup_id) or ""
        return path.rpartition("/")[2] in KUBELET_CGROUPS and not own_path(path).pod_uid

    def is_node_client(self, peer_cgroup_id: int, remote_address: str, server_cgroup_id: int) -> bool:
        """Whether a client is on this node and in no Pod, or in the server's own Pod."""
        if not peer_cgroup_id:
            return self._pods is not None and (
                remote_address in self._pods.node_addresses or remote_address in self.list_node_addresses()
            )
        path = self._cgroups.path(peer_cgroup_id)
        if path is None or self._pods is None:
            return False
        uid = own_path(path).pod_uid
        return not uid or uid == own_path(self._cgroups.path(server_cgroup_id) or "").pod_uid

    def list_node_addresses(self) -> frozenset[str]:
        """Of the node's own network, without those that its API server lists: a bridge of Pods, from which the node
        calls them."""
        known = self._pods.node_addresses if self._pods is not None else frozenset()
        return self._listeners.list_beside(known) - known

    def _add(self, end: End) -> tuple[Service, Hop]:
        """Names an end at its first call. An end that nothing names is tried again later."""
        with self._lock:
            waiting = self._retries.get(end)
            if waiting is not None and self._clock() < waiting[0]:
                return waiting[2]
            name = self._resolve(end, self._listeners.find(*end))
            if name is _UNKNOWN:
                rest_seconds = waiting[1] if waiting else FIRST_RETRY_SECONDS
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
        is_pod = name.kind is WorkloadKind.KUBERNETES  # Of which other nodes have more.
        return Service(
            cluster=self._cluster,
            namespace=name.namespace,
            workload=name.workload,
            workload_kind=name.kind,
            host_name="" if is_pod else self._node,
            port=end[1],
        )

    def _resolve(self, end: End, listener: Listener | None) -> _Name:
        path = self._cgroups.path(end[0])
        owner = own_path(path) if path else NOBODY
        process = listener.process if listener else None
        if process is not None and owner.name in RUNTIME_UNITS:  # Its containers may have cgroups of v1 alone.
            return self._name_process(process)
        if owner.kind is not OwnerKind.NONE and not owner.name.endswith(_SOCKET_UNIT):
            return self._name_owner(owner, process, is_from_process=False)
        if process is not None:
            return self._name_process(process)
        return self._name_owner(owner, None, is_from_process=False) if owner.kind is not OwnerKind.NONE else _UNKNOWN

    def _name_process(self, process: Process) -> _Name:
        """By the cgroup in which the process is now, of v2 and then of v1, and last by its program. The unit of a
        runtime names it only where nothing else does."""
        owners = [own_path(path) for path in (process.cgroup_path, *process.cgroup_v1_paths)]
        named = [owner for owner in owners if owner.kind is not OwnerKind.NONE]
        if named:
            owner = next((owner for owner in named if owner.name not in RUNTIME_UNITS), named[0])
            return self._name_owner(owner, process, is_from_process=True)
        return _Name(
            workload=process.name,
            kind=WorkloadKind.PROCESS,
            process=(process.pid, process.start_ticks),
            hop=_hop_of(process),
        )

    def _name_owner(self, owner: CgroupOwner, process: Process | None, *, is_from_process: bool) -> _Name:
        asked = (process.pid, process.start_ticks) if process and is_from_process else None
        if owner.kind is OwnerKind.UNIT:
            return _Name(workload=owner.name, kind=WorkloadKind.SYSTEMD_UNIT, process=asked, hop=_hop_of(process))
        pod = self._pods.name(owner) if self._pods else None
        if pod is not None:
            return _Name(
                namespace=pod.namespace,
                workload=pod.workload,
                kind=WorkloadKind.KUBERNETES,
                process=asked,
                hop=Hop.PROXY if pod.is_hop else _hop_of(process),
                left_out=pod.left_out,
                owner=owner,
            )
        # Of a Pod that is not known (yet), its uid says more than nothing.
        return _Name(
            workload=self._name_container(owner.name, owner.user_id) if owner.name else f"pod-{owner.pod_uid}",
            kind=WorkloadKind.CONTAINER,
            process=asked,
            hop=_hop_of(process),
            owner=owner,
        )

    def _name_client_cgroup(self, cgroup_id: int) -> tuple[str, bool]:
        """The name of a client's cgroup, and whether all its processes have it; else the process has to be asked."""
        path = self._cgroups.path(cgroup_id)
        if path is None:
            return "", False
        owner = own_path(path)
        name = "" if owner.kind is OwnerKind.NONE else _place(self._name_owner(owner, None, is_from_process=False))
        pod = self._pods.name(owner) if self._pods else None
        is_proxy = pod is not None and pod.is_proxy
        known = (name, bool(name) and not is_proxy and owner.name not in RUNTIME_UNITS)
        if is_proxy and len(self._proxies) < MAX_CLIENT_CGROUPS:
            self._proxies[cgroup_id] = owner.pod_uid
        if len(self._client_names) < MAX_CLIENT_CGROUPS:
            self._client_names[cgroup_id] = known
        return known

    def _find_pod(self, cgroup_id: int) -> str:
        """The uid of the Pod of a cgroup; empty where it is of none."""
        uid = self._pod_uids.get(cgroup_id)
        if uid is None:
            uid = self._pod_uids[cgroup_id] = own_path(self._cgroups.path(cgroup_id) or "").pod_uid
        return uid


def _place(name: _Name) -> str:
    """The name of a client."""
    return f"{name.namespace}/{name.workload}" if name.namespace else name.workload


def _hop_of(process: Process | None) -> Hop:
    if process is None:
        return Hop.ENDPOINT
    return Hop.PROXY if is_forwarding(process.executable) else Hop.ENDPOINT
