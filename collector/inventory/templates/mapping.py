"""Gives a route an endpoint, applies people's edits, and finds hosts that differ by a tenant's name.

`EditBook`: an edit (split, merge, rename, pin) is one rule for a service, host and method: which paths it is about and
what their template is. A path is matched by segment with what learning made of it, so later routes are found too. A
rule never takes a literal that is an endpoint of its own. Of several rules that fit, the one with most fixed segments
holds, then the newest. To undo an edit is to remove its rule. Pure.

`find_tenants` joins hosts to one, `{tenant}.example.com`. A label is a value where many hosts of one service have the
same API. A label that names a role (`www`, `api`, `admin`) is never a tenant. Nor is a host with another API, one that
was never served, or one that a person keeps apart or edited. Only the first label is a value:
`api.{tenant}.example.com` is not found. Pure.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from collector.core.rows import Route, Segment, Service
from collector.inventory.naming import LITERAL, WORD, identify_endpoint, template


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointName:
    """What naming gives for one route."""

    endpoint_id: str
    template: str


def name_endpoint(route: Route, words: Mapping[int, str]) -> EndpointName:
    """The endpoint of a route by itself, as long as nothing is known of its siblings
    (collector/inventory/templates/catalogue.py).

    A trailing slash does not make another endpoint.
    """
    named = template(route.segments, False, words)
    return EndpointName(endpoint_id=identify_endpoint(route, named), template=named)


NAME_CHARACTERS_MAX: Final = 64
EDITS_MAX: Final = 10_000
WORDS_MAX: Final = 2_000  # Of one place; of more, learning says that it is a parameter.


class EditKind(StrEnum):
    """What was done."""

    SPLIT = "split"
    MERGE = "merge"
    RENAME = "rename"
    PIN = "pin"
    HOST = "host"  # A host, or all of a pattern, keeps its own name (collector/inventory/templates/mapping.py).


class EditError(ValueError):
    """What was asked cannot be done; the message is one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What may stand at one segment: these texts, words of these hashes, and where `is_open` all that is a parameter by
    learning."""

    is_open: bool
    texts: frozenset[str] = frozenset()
    hashes: frozenset[int] = frozenset()

    def fits(self, segment: Segment, text: str, learned: str) -> bool:
        """`text` of the segment as far as it is known; `learned`: its part of the learned template."""
        if text and text in self.texts:
            return True
        if segment.kind == WORD and segment.hash in self.hashes:
            return True
        return self.is_open and "{" in learned


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """One decision. `exact_since`: unix seconds since when a split counts all calls, None where it is none or they are
    not known apart; `note` says why not."""

    id: str
    kind: EditKind
    service: Service
    host: str
    method: str
    places: tuple[Place, ...]
    template: str
    by: str
    time: int
    exact_since: int | None = None
    note: str = ""
    undone_by: str = ""
    undone_at: int = 0

    @property
    def fixed_count(self) -> int:
        """Segments that are no parameter."""
        return sum(not place.is_open for place in self.places)


class EditBook:
    """The edits in force, by service and host."""

    def __init__(self, edits: Iterable[Edit] = ()) -> None:
        self._rules: dict[tuple[Service, str], list[Edit]] = {}
        for edit in sorted(edits, key=lambda edit: (-edit.fixed_count, -edit.time, edit.id)):
            if not edit.undone_at and edit.kind is not EditKind.HOST:
                self._rules.setdefault((edit.service, edit.host), []).append(edit)

    def list_edited_hosts(self) -> set[tuple[Service, str]]:
        """Whose templates somebody edited, by service and host."""
        return set(self._rules)

    def apply(
        self, routes: Iterable[Route], learned: Mapping[int, EndpointName], words: Mapping[int, str]
    ) -> dict[int, EndpointName]:
        """Names of routes, those that an edit is about as it says."""
        found = dict(learned)
        for route in routes if self._rules else ():
            rules = self._rules.get((route.service, route.host), ())
            template = learned[route.route_id].template
            edit = next((one for one in rules if _fits(one, route, template, words)), None)
            if edit is not None:
                endpoint_id = identify_endpoint(route, edit.template)
                found[route.route_id] = EndpointName(endpoint_id=endpoint_id, template=edit.template)
        return found


def _fits(edit: Edit, route: Route, learned: str, words: Mapping[int, str]) -> bool:
    parts = split_template(learned)
    if edit.method != route.method or len(edit.places) != len(route.segments) or len(parts) != len(route.segments):
        return False
    return all(
        place.fits(segment, read_text(segment, words), part)
        for place, segment, part in zip(edit.places, route.segments, parts, strict=True)
    )


def read_text(segment: Segment, words: Mapping[int, str]) -> str:
    """The text of a literal or of a word that was revealed; empty for all else."""
    if segment.kind == WORD:
        return segment.text or words.get(segment.hash, "")
    return segment.text if segment.kind == LITERAL else ""


def split_template(template: str) -> list[str]:
    """Segments of a template."""
    return [part for part in template.split("/") if part]


def join_template(parts: Iterable[str], like: str = "") -> str:
    """The template of some segments; with a trailing slash where `like`, another template, has one."""
    joined = "/" + "/".join(parts)
    return joined + "/" if like.endswith("/") and joined != "/" else joined


def make_places(template: str, routes: Sequence[Route], words: Mapping[int, str]) -> tuple[Place, ...]:
    """What an endpoint with this template and these routes is about: its literals, and at its parameters all that is
    one by learning, and the words that stand there now."""
    places = []
    for number, part in enumerate(split_template(template)):
        if "{" not in part:
            places.append(Place(is_open=False, texts=frozenset((part,))))
            continue
        here = [route.segments[number] for route in routes if number < len(route.segments)]
        texts = {text for segment in here if (text := read_text(segment, words))}
        hashes = {segment.hash for segment in here if segment.kind == WORD}
        kept = frozenset(sorted(texts)[:WORDS_MAX]), frozenset(sorted(hashes)[:WORDS_MAX])
        places.append(Place(is_open=True, texts=kept[0], hashes=kept[1]))
    return tuple(places)


def write_places(places: Iterable[Place]) -> str:
    """As JSON, for the store."""
    return json.dumps(
        [{"open": one.is_open, "texts": sorted(one.texts), "hashes": sorted(one.hashes)} for one in places]
    )


def read_places(text: str) -> tuple[Place, ...]:
    """The other way."""
    stored: list[dict[str, Any]] = json.loads(text)
    return tuple(
        Place(is_open=one["open"], texts=frozenset(one["texts"]), hashes=frozenset(one["hashes"])) for one in stored
    )


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


@dataclass(frozen=True, slots=True, kw_only=True)
class EditedEndpoint:
    """What an edit begins with."""

    template: str
    routes: Sequence[Route]
    first_seen: dict[int, int]  # Unix seconds by route id.
