"""Calls that only ask whether a service lives, or how it does: kubelet probes, metrics scrapes, health checks. Pure.

A call is judged by its head: the User-Agent, which anybody can send, and what a probe of that kind always is besides,
which not everybody can be. What calls faster than a probe does is told, whatever it says it is (`sensor.left_out.gate`
counts), and a kubelet's probe must come from this node and from no Pod.
"""

import enum
import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

HEAD_BYTES: Final = 4_096


class ProbeKind(enum.Enum):
    """What asked; the value is told in the coverage."""

    KUBELET = "kubelet probes"
    SCRAPE = "metrics scrapes"
    HEALTH_CHECK = "health checks"


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


# Where metrics are by convention; a scraper that is sent elsewhere is told like any other client.
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
