"""Hosts that differ by a tenant's name are one host, `{tenant}.example.com`: served routes in, names out; pure.

A label is a value where many hosts of one service have the same API below them. What speaks against it comes first: a
label that names a role (`www`, `api`, `admin`) is never a tenant, nor is a host whose API differs from the others', nor
one that was never served, nor one that a person keeps apart or whose templates a person edited. Only the first label is
a value: `api.{tenant}.example.com` is not found.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Set
from dataclasses import replace
from typing import Final

from collector.inventory.mapping import name_endpoint
from collector.rows import Route, Service

TENANT: Final = "{tenant}"
# Hosts of one suffix with the same API from which on they are an open set, as of words in a path ...
MIN_HOSTS: Final = 4
# ... and where they have one endpoint in common only.
MIN_HOSTS_OF_ONE_FORM: Final = 8
# An endpoint is of the common API where so many of the hosts have it; a host joins with so much of its own in it.
COMMON_SHARE: Final = 0.5
JOINING_SHARE: Final = 0.7
_NUMBER: Final = re.compile(r"[-_]?\d+\Z")
# What a label names besides tenants: roles, environments, regions.
_ROLE_WORDS: Final = (
    "www www2 web api apis app apps admin auth login sso id identity accounts account static assets cdn media img "
    "images files download downloads upload uploads docs doc help support status blog news shop store mail smtp "
    "imap mx ftp ns dns vpn gateway gw proxy edge public private internal external intern extern dev develop "
    "development test testing qa stage staging stg preprod prod production live beta alpha canary demo sandbox "
    "preview local localhost m mobile ws wss socket grpc graphql rpc webhook webhooks hooks events metrics monitor "
    "monitoring grafana prometheus kibana logs search git ci jenkins registry payments pay billing checkout orders "
    "users us eu de uk asia apac emea east west north south central "
)
_ROLES: Final = frozenset(_ROLE_WORDS.split())
# Every service has these, whoever's it is.
_COMMON_PLACES: Final = frozenset(
    (
        *("/", "/health", "/healthz", "/ready", "/readyz", "/live", "/livez", "/ping", "/status", "/version"),
        *("/metrics", "/favicon.ico", "/robots.txt", "/index.html", "/login", "/logout"),
    )
)

HostKey = tuple[Service, str]


def find_tenants(routes: Iterable[Route], kept: Set[HostKey]) -> dict[HostKey, str]:
    """The pattern of each host that is one of many, by service and host. `routes`: served ones under their raw hosts;
    `kept`: hosts and patterns that stay as they are. Deterministic, whatever the order."""
    forms: dict[HostKey, set[tuple[str, str]]] = defaultdict(set)
    for route in routes:
        template = name_endpoint(route, {}).template
        if template not in _COMMON_PLACES:
            forms[route.service, route.host].add((route.method, template))
    groups: dict[HostKey, dict[str, set[tuple[str, str]]]] = defaultdict(dict)
    for (service, host), own in forms.items():
        suffix = _read_suffix(host)
        if suffix and not {(service, host), (service, f"{TENANT}.{suffix}")} & kept:
            groups[service, suffix][host] = own
    return {
        (service, host): f"{TENANT}.{suffix}"
        for (service, suffix), hosts in groups.items()
        for host in _find_alike(hosts)
    }


def is_pattern(host: str) -> bool:
    """Whether a host stands for several."""
    return host.startswith("{")


def _read_suffix(host: str) -> str:
    """What follows the first label, where that may name a tenant; a domain of two labels at least."""
    label, _, suffix = host.partition(".")
    name = suffix.partition(":")[0]
    is_domain = "." in name.strip(".") and not name.rpartition(".")[2].isdigit()
    is_role = _NUMBER.sub("", label.lower()) in _ROLES or any(part in _ROLES for part in label.lower().split("-"))
    return suffix if label and is_domain and not is_role else ""


def _find_alike(hosts: Mapping[str, set[tuple[str, str]]]) -> list[str]:
    """Those that have the API that most have; none where they are too few."""
    counts = Counter(form for own in hosts.values() for form in own)
    common = {form for form, count in counts.items() if count >= COMMON_SHARE * len(hosts) and count > 1}
    alike = [host for host, own in hosts.items() if len(own & common) >= JOINING_SHARE * len(own)]
    least = MIN_HOSTS if len(common) > 1 else MIN_HOSTS_OF_ONE_FORM
    return alike if common and len(alike) >= least else []


class TenantHosts:
    """The names of hosts as they hold now. Not thread-safe."""

    def __init__(self, known: Mapping[HostKey, str], kept: Set[HostKey]) -> None:
        """`known`: those of before a restart; `kept`: what people decided."""
        self._patterns = dict(known)
        self._kept = set(kept)

    def keep(self, kept: Set[HostKey]) -> None:
        """What people decided, as it is from now on; it holds with the next look at all routes."""
        self._kept = set(kept)

    def learn(self, served: Iterable[Route]) -> None:
        """Look at all served routes, under their raw hosts, anew."""
        self._patterns = find_tenants(served, self._kept)

    def rename(self, route: Route) -> Route:
        """The route under its host's pattern; itself where there is none."""
        pattern = self._patterns.get((route.service, route.host))
        return route if pattern is None else replace(route, host=pattern)

    def list_raw(self, hosts: Iterable[str]) -> list[str]:
        """What these patterns are called in routes."""
        wanted = set(hosts)
        return sorted({host for (_, host), pattern in self._patterns.items() if pattern in wanted})

    def list_hosts(self, service: Service, pattern: str) -> tuple[str, ...]:
        """The hosts of one service behind a pattern."""
        return tuple(
            sorted(host for (whose, host), one in self._patterns.items() if whose == service and one == pattern)
        )
