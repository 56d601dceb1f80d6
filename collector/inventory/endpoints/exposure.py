"""Decides whether an endpoint is reached from outside its cluster or host, by facts of Kubernetes and clients seen.
Pure.

A fact of an Ingress or route counts for all endpoints whose template its path can lead to. The host that the call named
does not matter, because the same code answers behind the path. Either kind of evidence makes an endpoint external.
Internal needs evidence too.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from collector.kubernetes.rows import ROUTES, Fact, FactKind

_PARAMETER_START = "{"
# A word that is not shown. Words of watched routes are shown (collector/kubernetes/exposure.py), so no route has one.
_HIDDEN_WORD = re.compile(r"\{word(_[0-9]+)?\}")
_REASONS_MAX = 8


class ExposureLevel(StrEnum):
    """From where an endpoint is reached."""

    EXTERNAL = "external"  # Something leads to it from outside, or a public address called it.
    PARTNER = "partner"  # Of strangers, only networks of partners called it.
    INTERNAL = "internal"
    THIRD_PARTY = "third_party"  # Not ours: our programs call it.
    UNKNOWN = "unknown"  # No cluster that is watched knows it, and no address called it.


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Calls at the server by where they came from."""

    calls: int  # With a client address.
    public_calls: int
    public_address: str  # One of them.
    partner_calls: int = 0  # From networks of partners.
    is_outbound: bool = False  # Seen at our clients only, at an address of the internet that is none of ours.


NOBODY = Observed(calls=0, public_calls=0, public_address="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """`facts` are those that count for this endpoint, `since` when they became so (unix seconds; 0: not known)."""

    level: ExposureLevel
    reasons: tuple[str, ...]
    facts: tuple[Fact, ...]
    since: int


def judge(
    facts: Iterable[Fact] | None, observed: Observed, *, template: str = "", method: str = "", since: int = 0
) -> Exposure:
    """`facts` None: no cluster that is watched knows the workload. An empty template is of a whole port."""
    counting = tuple(fact for fact in facts or () if leads_to(fact, template, method))
    reasons = [describe(fact) for fact in counting if fact.is_external]
    if observed.public_calls:
        reasons.append(f"{observed.public_calls} calls from public addresses, as {observed.public_address}")
    if reasons:
        level = ExposureLevel.EXTERNAL
    elif observed.partner_calls:
        level = ExposureLevel.PARTNER
        reasons = [f"{observed.partner_calls} calls from networks of partners"]
    elif observed.is_outbound and facts is None:
        level = ExposureLevel.THIRD_PARTY
        reasons = ["called by our programs; no sensor sees its server"]
    elif facts is None and not observed.calls:
        level = ExposureLevel.UNKNOWN
        reasons = ["no watched cluster knows it, and no client address was seen"]
    else:
        level = ExposureLevel.INTERNAL
        reasons = [] if facts is None else ["nothing leads to it from outside the cluster"]
        if observed.calls:
            reasons.append("called from private addresses only")
    reasons += [describe(fact) for fact in counting if fact.kind is FactKind.NETWORK_POLICY]
    return Exposure(level=level, reasons=tuple(reasons[:_REASONS_MAX]), facts=counting, since=since)


def leads_to(fact: Fact, template: str, method: str) -> bool:
    """Whether a fact is about calls of this template and method. What cannot be told leads there."""
    if fact.kind not in ROUTES or not template:
        return True
    if fact.method and method and fact.method != method:
        return False
    if fact.is_rewritten or fact.path_type == "Pattern":
        return True
    wanted, has = _split(fact.path), _split(template)
    if fact.path_type == "Exact" and len(wanted) != len(has):
        return False
    return len(wanted) <= len(has) and all(map(_may_be, wanted, has))


def _may_be(word: str, segment: str) -> bool:
    """Whether a segment of a template stands for this word of a path."""
    return word == segment or (segment.startswith(_PARAMETER_START) and not _HIDDEN_WORD.fullmatch(segment))


def describe(fact: Fact) -> str:
    """A fact in one line."""
    place = f"{fact.host}{fact.path}{'*' if fact.path_type == 'Prefix' else ''}"
    addresses = ", ".join(fact.addresses)
    where = {
        **{kind: f"{name} {fact.source}: {place}" for kind, name in ROUTES.items()},
        FactKind.LOAD_BALANCER: f"LoadBalancer {fact.source}, port {fact.port}",
        FactKind.NODE_PORT: f"NodePort {fact.source}: {fact.port}",
        FactKind.EXTERNAL_IP: f"external address of {fact.source}, port {fact.port}",
        FactKind.HOST_PORT: f"port {fact.port} of its nodes",
        FactKind.HOST_NETWORK: "on its nodes' network",
        FactKind.CLUSTER_IP: f"Service {fact.source}, port {fact.port}",
        FactKind.NETWORK_POLICY: f"NetworkPolicy {fact.source} {fact.note}",
    }[fact.kind]
    return f"{where} at {addresses}" if addresses else where


def _split(path: str) -> list[str]:
    return [part for part in path.split("/") if part]
