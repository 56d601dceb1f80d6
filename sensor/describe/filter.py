"""Decides which calls are excluded before they are described, and counts them by service and reason for the coverage.

Traffic of Apidae itself goes first (sensor/enrich/own_traffic.py). Its processes prove it, never a head. Then come
calls of workloads that are switched off (sensor/enrich/kubernetes/cluster.py): what they serve and what they call.

Then come probes: kubelet probes, metrics scrapes and health checks. Anybody can send the User-Agent of a probe. So a
probe must also come from where such probes come from, and no more often than they do. A kubelet's probe must come from
this node and from no Pod. A client that calls faster is reported, whatever it claims to be. Streams of `kubectl exec`
and its like between the kubelet and the container runtime are excluded too: they are no API of a workload.

The kernel does not match paths on which a probe was seen, because its records do not say who called.
"""

import enum
import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from common.bounded import BoundedDict
from common.token_bucket import TokenBucket
from sensor.core.arrays import number_values
from sensor.core.calls import Ends, Exchange, Hop, Role, Service
from sensor.coverage.row import CoverageRole, PortCoverage, PortProtocol
from sensor.ebpf.abi import OVERFLOW_KEY, OverflowTotals, Records
from sensor.enrich.cgroup import RUNTIME_UNITS
from sensor.enrich.own_traffic import OwnTraffic
from sensor.http.http2.exchange import StreamExchange
from sensor.http.http2.heads import StreamRequest

HEAD_BYTES: Final = 4_096


class ProbeKind(enum.Enum):
    """What asked; the value is reported in the coverage."""

    KUBELET = "kubelet probes"
    SCRAPE = "metrics scrapes"
    HEALTH_CHECK = "health checks"
    STREAM = "kubelet streams"


class Source(enum.Enum):
    """Where the client of a kind of probe is."""

    NODE = "node"  # On this node, outside of Pods; or a sidecar of the same Pod that passes the probe on.
    PRIVATE = "private"  # An address of the own networks.
    ANY = "any"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeRule:
    """One client, by the beginning of its User-Agent."""

    agent: str
    kind: ProbeKind
    client: Source
    path: re.Pattern[str] | None  # What its path must be; None: any.
    source: str


# Where metrics are by convention; a scraper that is sent elsewhere is reported like any other client.
_METRICS = re.compile(r"(/[A-Za-z0-9_.-]+)*/(metrics|prometheus|federate|probe|actuator/prometheus)/?")

RULES: Final = (
    ProbeRule(
        agent="kube-probe/", kind=ProbeKind.KUBELET, client=Source.NODE, path=None,
        source="kubernetes pkg/probe/http/request.go, userAgent",
    ),
    *(
        ProbeRule(agent=agent, kind=ProbeKind.SCRAPE, client=Source.PRIVATE, path=_METRICS, source=source)
        for agent, source in (
            ("Prometheus/", "prometheus scrape/scrape.go, UserAgent"),
            ("vm_promscrape", "VictoriaMetrics lib/promscrape/client.go"),
            ("GrafanaAgent/", "grafana/agent"),
            ("Alloy/", "grafana/alloy"),
            ("Telegraf/", "influxdata/telegraf plugins/inputs/prometheus"),
            ("OpenTelemetry Collector", "opentelemetry-collector, prometheus receiver"),
        )
    ),
    *(
        ProbeRule(agent=agent, kind=ProbeKind.HEALTH_CHECK, client=client, path=None, source=source)
        for agent, client, source in (
            ("Envoy/HC", Source.PRIVATE, "envoy source/extensions/health_checkers/http"),
            ("ELB-HealthChecker/", Source.PRIVATE, "AWS, health checks for target groups"),
            ("GoogleHC/", Source.ANY, "Google Cloud, probes come from 35.191.0.0/16 and 130.211.0.0/22"),
            ("Consul Health Check", Source.PRIVATE, "hashicorp/consul agent/checks/check.go"),
            ("kube-router/", Source.PRIVATE, "cloudnativelabs/kube-router"),
            ("traefik-healthcheck", Source.PRIVATE, "traefik pkg/healthcheck"),
        )
    ),
)  # fmt: skip
_BY_AGENT: Final = {rule.agent.encode(): rule for rule in RULES}
_AGENTS: Final = tuple(_BY_AGENT)
_AGENT_BYTES: Final = 64  # Looked at.
# As clients spell it; a search for bytes costs a tenth of one for a pattern.
_FIELDS: Final = (b"\nUser-Agent:", b"\nuser-agent:")
_METHODS: Final = (b"GET ", b"HEAD ")
# A probe asks for a path and no more; `federate` and `probe` of Prometheus have their parameters in the query.
_LINE: Final = re.compile(rb"[A-Z]+ (/[^ ?#]*)(\?[^ ]*)? HTTP/1\.[01]\r?\n")
# `kubectl exec`, `attach` and `port-forward`, which the kubelet passes on to the container runtime's own server, with a
# token of one use (kubernetes staging/src/k8s.io/kubelet/pkg/cri/streaming/server.go).
_STREAM: Final = re.compile(rb"(?:POST|GET) /(?:exec|attach|portforward)/[A-Za-z0-9_-]{8,64} HTTP/1\.1\r\n")
# grpc.health.v1: what kubelets, meshes and load balancers ask of gRPC (grpc/doc/health-checking.md).
GRPC_HEALTH: Final = "/grpc.health.v1.Health/"


def find_rule(head: bytes) -> tuple[ProbeRule, str] | None:
    """The rule that a head of HTTP/1 says it is of, and its path; 0.9 us where it is of none."""
    for field in _FIELDS:
        place = head.find(field, 0, HEAD_BYTES)
        if place >= 0:
            break
    else:
        return None
    start = place + len(field)
    value = head[start : start + _AGENT_BYTES].lstrip(b" \t")
    if not value.startswith(_AGENTS) or not head.startswith(_METHODS):
        return None
    line = _LINE.match(head)
    if line is None:
        return None
    rule = next(rule for agent, rule in _BY_AGENT.items() if value.startswith(agent))
    path = line[1].decode("latin-1")
    if rule.path is not None and not rule.path.fullmatch(path):
        return None
    return rule, path


@lru_cache(maxsize=4_096)
def is_private(address: str) -> bool:
    """Whether an address is of no network of the whole world (RFC 1918, 4193, 6598, loopback, link-local)."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return not parsed.is_global


# Services and reasons; those past it are added together under the service of the node.
ENTRIES_MAX: Final = 4_096


@dataclass(frozen=True, slots=True)
class Exclusion:
    """A call that is excluded: its service, what kind of call it is, and why."""

    service: Service
    kind: str  # A few words, out of a fixed set.
    reason: str  # A sentence, out of a fixed set.


class ExclusionAccount:
    """Calls excluded since the sensor's start. Not thread-safe."""

    def __init__(self) -> None:
        self._calls: dict[Exclusion, int] = {}
        self._other = 0
        self.calls = 0

    def add(self, exclusion: Exclusion, calls: int = 1) -> None:
        """`calls` more."""
        self.calls += calls
        if exclusion in self._calls or len(self._calls) < ENTRIES_MAX:
            self._calls[exclusion] = self._calls.get(exclusion, 0) + calls
        else:
            self._other += calls

    def cover(self, unknown_service: Service) -> list[PortCoverage]:
        """One row a (service, kind, reason)."""
        entries = list(self._calls.items())
        if self._other:
            entries.append(
                (Exclusion(unknown_service, "others", "excluded, of services beyond the table's size"), self._other)
            )
        return [
            PortCoverage(
                service=one.service,
                protocol=PortProtocol.LEFT_OUT,
                connections=0,
                bytes=0,
                address=one.kind,
                reason=one.reason,
                role=CoverageRole.NODE,
                calls=calls,
            )
            for one, calls in entries
        ]


# A kubelet asks a container three things, each at most once a second; load balancers have a dozen checkers.
PROBES_PER_SECOND: Final = 10
# (service, path)s on which probes were seen: a port has three or four.
PATHS_MAX: Final = 4_096
SWITCHED_OFF: Final = "calls"
OWN_TRAFFIC: Final = "Apidae's own traffic"
_OWN_REASON: Final = "Excluded from the inventory, for Apidae serves or makes these calls."
_REASON: Final = "Recognised and kept out of the inventory; include_health_checks reports them."
_SECOND_NS: Final = 1_000_000_000


class FilterIdentity(Protocol):
    """What a filter asks of who is at each end: `sensor.enrich.identity` has the answers."""

    @property
    def is_leaving_out(self) -> bool: ...

    def server(self, cgroup_id: int, local_port: int, local_address: str) -> tuple[Service, Hop]: ...

    def why_left_out(self, cgroup_id: int) -> str: ...

    def why_end_left_out(self, cgroup_id: int, local_port: int, local_address: str) -> str: ...

    def is_kubelet(self, cgroup_id: int) -> bool: ...

    def is_node_client(self, peer_cgroup_id: int, remote_address: str, server_cgroup_id: int) -> bool: ...


class CallFilter:
    """What is excluded at one node. Not thread-safe."""

    def __init__(
        self,
        identity: FilterIdentity,
        account: ExclusionAccount,
        *,
        include_health_checks: bool = False,
        own_traffic: OwnTraffic | None = None,
    ) -> None:
        """Without `own_traffic`, Apidae's own is reported like any other."""
        self._identity = identity
        self._own_traffic = own_traffic
        self._account = account
        self._include_health_checks = include_health_checks
        self._rates: BoundedDict[tuple[Service, ProbeKind], TokenBucket] = BoundedDict(PATHS_MAX)
        self._now_seconds = 0.0  # When the call began that is looked at.
        self._paths: set[tuple[Service, str]] = set()
        self._totals: dict[bytes, OverflowTotals] = {}
        self._withheld: dict[bytes, OverflowTotals] = {}
        self._on_probed: Callable[[Service], None] = lambda service: None
        self.fast_probes = 0  # Calls that said they were probes and came too often to be.

    def find_exclusion(self, exchange: Exchange | StreamExchange) -> Exclusion | None:
        """Why a call is excluded, and it is counted then; None where it is not. 1.3 us where it is not."""
        stream = exchange if isinstance(exchange, StreamExchange) else None
        plain = exchange.exchange if isinstance(exchange, StreamExchange) else exchange
        exclusion = self._find_own(plain) or self._find_switched_off(plain.ends)
        if exclusion is None and not self._include_health_checks and plain.ends.role is Role.SERVER:
            exclusion = self._find_probe(plain, stream)
        if exclusion is not None:
            self._account.add(exclusion, plain.figures.calls)
        return exclusion

    def set_on_probed(self, on_probed: Callable[[Service], None]) -> None:
        """`on_probed` gets a service with another path that the kernel must not match, from now on."""
        self._on_probed = on_probed

    def is_probed(self, service: Service, path: str) -> bool:
        """Whether a probe was seen on this path: it is not to be taught."""
        return (service, path) in self._paths

    def is_own_end(self, cgroup_id: int, local_port: int, local_address: str) -> bool:
        """Whether calls that are served at an end are excluded as Apidae's own: they are not to be taught."""
        return self._own_traffic is not None and self._own_traffic.is_own_end(cgroup_id, local_port, local_address)

    def _find_own(self, exchange: Exchange) -> Exclusion | None:
        if self._own_traffic is None or not self._own_traffic.is_own(exchange):
            return None
        ends = exchange.ends
        service = self._name_server(ends) if ends.role is Role.SERVER else self._name_client(ends.cgroup_id)
        return Exclusion(service, OWN_TRAFFIC, _OWN_REASON)

    def _find_switched_off(self, ends: Ends) -> Exclusion | None:
        identity = self._identity
        if not identity.is_leaving_out:
            return None
        reason = identity.why_left_out(ends.cgroup_id)
        if ends.role is Role.SERVER:
            # Named first: by its listener's process, where its cgroup does not name it.
            service = self._name_server(ends)
            reason = reason or identity.why_end_left_out(ends.cgroup_id, ends.local_port, ends.local_address)
            return Exclusion(service, SWITCHED_OFF, reason) if reason else None
        return Exclusion(self._name_client(ends.cgroup_id), SWITCHED_OFF, reason) if reason else None

    def _find_probe(self, exchange: Exchange, stream: StreamExchange | None) -> Exclusion | None:
        found = self._find_kind(exchange, stream)
        if found is None:
            return None
        kind, path = found
        service = self._name_server(exchange.ends)
        if not self._may_be_probe(service, kind, exchange.figures.time_unix_ns / _SECOND_NS):
            self.fast_probes += 1
            return None
        if path and (service, path) not in self._paths and len(self._paths) < PATHS_MAX:
            self._paths.add((service, path))
            self._on_probed(service)
        return Exclusion(service, kind.value, _REASON)

    def _find_kind(self, exchange: Exchange, stream: StreamExchange | None) -> tuple[ProbeKind, str] | None:
        if stream is not None:
            request = stream.call.request
            path = request.head.path if isinstance(request, StreamRequest) else ""
            if not path.startswith(GRPC_HEALTH):
                return None
            if self._is_there(Source.NODE, exchange.ends):
                return ProbeKind.KUBELET, path
            return (ProbeKind.HEALTH_CHECK, path) if self._is_there(Source.PRIVATE, exchange.ends) else None
        if _STREAM.match(exchange.request_head) and self._is_runtime_stream(exchange.ends):
            return ProbeKind.STREAM, ""
        found = find_rule(exchange.request_head)
        if found is None:
            return None
        rule, path = found
        return (rule.kind, path) if self._is_there(rule.client, exchange.ends) else None

    def _is_runtime_stream(self, ends: Ends) -> bool:
        """Whether the kubelet is the client, or this node is and a container runtime serves."""
        if not self._is_there(Source.NODE, ends):
            return False
        return self._identity.is_kubelet(ends.peer_cgroup_id) or self._name_server(ends).workload in RUNTIME_UNITS

    def _is_there(self, source: Source, ends: Ends) -> bool:
        """Whether the client is where the clients of a kind of probe are."""
        match source:
            case Source.NODE:
                return self._identity.is_node_client(ends.peer_cgroup_id, ends.remote_address, ends.cgroup_id)
            case Source.PRIVATE:
                return is_private(ends.remote_address)
            case Source.ANY:
                return True

    def _may_be_probe(self, service: Service, kind: ProbeKind, now_seconds: float) -> bool:
        """Whether a probe of a kind may be one, by how many there were of late."""
        self._now_seconds = now_seconds
        rate = self._rates.get((service, kind))
        if rate is None:
            rate = TokenBucket(PROBES_PER_SECOND, PROBES_PER_SECOND, lambda: self._now_seconds)
            self._rates[service, kind] = rate
        return rate.take()

    def _name_server(self, ends: Ends) -> Service:
        return self._identity.server(ends.cgroup_id, ends.local_port, ends.local_address)[0]

    def _name_client(self, cgroup_id: int) -> Service:
        return self._identity.server(cgroup_id, 0, "")[0]

    def filter_records(self, records: Records) -> Records:
        """Those that are reported; the others are counted."""
        identity = self._identity
        is_out = np.zeros(len(records), bool)
        if self._own_traffic is not None and self._own_traffic.cgroup_ids:
            self._mark_own(records, is_out, self._own_traffic)
        if identity.is_leaving_out:
            self._mark_switched_off(records, is_out)
        if not self._include_health_checks:
            self._mark_kubelet(records, is_out)
        return records[~is_out] if is_out.any() else records

    def _mark_own(self, records: Records, is_out: npt.NDArray[np.bool_], own: OwnTraffic) -> None:
        """Apidae's own calls teach nothing: these are beyond the budget, or were taught before it was known whose they
        are."""
        is_server = records["role"] == Role.SERVER
        for cgroup_id in own.cgroup_ids:
            is_there = is_server & (records["cgroup_id"] == cgroup_id)
            for port in number_values(records["local_port"][is_there])[0].tolist():
                if own.is_own_end(cgroup_id, port, ""):
                    is_of = is_there & (records["local_port"] == port)
                    self._count(records, is_of, is_out, cgroup_id, OWN_TRAFFIC, _OWN_REASON)
        is_called = np.isin(records["connection"], np.array(own.list_sockets(), np.uint64))
        for cgroup_id in number_values(records["cgroup_id"][is_called & ~is_out])[0].tolist():
            is_of = is_called & (records["cgroup_id"] == cgroup_id)
            self._count(records, is_of, is_out, cgroup_id, OWN_TRAFFIC, _OWN_REASON)

    def _mark_switched_off(self, records: Records, is_out: npt.NDArray[np.bool_]) -> None:
        ids, _, places = number_values(records["cgroup_id"])
        for place, cgroup_id in enumerate(ids.tolist()):
            reason = self._identity.why_left_out(cgroup_id)
            if reason:
                self._count(records, places == place, is_out, cgroup_id, SWITCHED_OFF, reason)

    def _mark_kubelet(self, records: Records, is_out: npt.NDArray[np.bool_]) -> None:
        """What the kubelet calls over HTTP on its node is probes (and hooks of a container's life)."""
        peers = number_values(records["peer_cgroup_id"])[0].tolist()
        kubelets = [peer for peer in peers if peer and self._identity.is_kubelet(peer)]
        for peer in kubelets:
            is_server = records["role"] == Role.SERVER
            is_peer = is_server & (records["peer_cgroup_id"] == peer)
            for cgroup_id in number_values(records["cgroup_id"][is_peer])[0].tolist():
                chosen = is_peer & (records["cgroup_id"] == cgroup_id)
                self._count(records, chosen, is_out, cgroup_id, ProbeKind.KUBELET.value, _REASON)

    def _count(
        self, records: Records, chosen: npt.NDArray[np.bool_], is_out: npt.NDArray[np.bool_], cgroup_id: int,
        kind: str, reason: str,
    ) -> None:  # fmt: skip
        chosen = chosen & ~is_out
        is_out |= chosen
        some = records[chosen]
        for role, port in np.unique(np.stack((some["role"], some["local_port"])), axis=1).T.tolist():
            is_of = (some["role"] == role) & (some["local_port"] == port)
            service = self._identity.server(cgroup_id, port if role == Role.SERVER else 0, "")[0]
            self._account.add(Exclusion(service, kind, reason), int(some["calls"][is_of].sum()))

    def filter_overflow(self, totals: Mapping[bytes, OverflowTotals]) -> Mapping[bytes, OverflowTotals]:
        """OverflowTotals since the load without those of what is excluded meanwhile, which are counted."""
        may_exclude = self._identity.is_leaving_out or (self._own_traffic is not None and self._own_traffic.cgroup_ids)
        if not may_exclude and not self._withheld:
            self._totals = dict(totals)
            return totals
        kept: dict[bytes, OverflowTotals] = {}
        for key, total in totals.items():
            cgroup_id, port, role, _ = OVERFLOW_KEY.unpack(key)
            withheld = self._withheld.get(key, (0, 0, 0, 0))
            kind, reason = self._explain_overflow(cgroup_id, port, role)
            if reason:
                before = self._totals.get(key, (0, 0, 0, 0))
                more = _add(total, before, -1)
                withheld = self._withheld[key] = _add(withheld, more, 1)
                if more[0]:
                    service = self._identity.server(cgroup_id, port if role == Role.SERVER else 0, "")[0]
                    self._account.add(Exclusion(service, kind, reason), more[0])
            kept[key] = _add(total, withheld, -1)
        self._totals = dict(totals)
        return kept

    def _explain_overflow(self, cgroup_id: int, port: int, role: int) -> tuple[str, str]:
        """Kind and reason of what is excluded; empty of what is reported. Which client it was of is not known there."""
        if role == Role.SERVER and self.is_own_end(cgroup_id, port, ""):
            return OWN_TRAFFIC, _OWN_REASON
        return SWITCHED_OFF, self._identity.why_left_out(cgroup_id)


def _add(one: OverflowTotals, other: OverflowTotals, factor: int) -> OverflowTotals:
    a, b = one, other
    return a[0] + factor * b[0], a[1] + factor * b[1], a[2] + factor * b[2], a[3] + factor * b[3]
