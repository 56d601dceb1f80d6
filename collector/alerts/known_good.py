"""Known good: callers and detectors of whom people say that what they do is in order, until a time.

A rule names a consumer, a range of addresses, a workload, an endpoint or a detector's kind; what it names must all
hold. What a rule matches raises no alert, and is counted.
"""

import ipaddress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from collector.alerts.alert import Alert, AlertKind
from collector.alerts.report import Report

RULES_MAX: Final = 1_000  # At once.
SECONDS_MAX: Final = 400 * 86_400
SECONDS_DEFAULT: Final = 30 * 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownGood:
    """A row of `known_good`; the newest version of an id holds. Times are unix seconds. Raises ValueError with one
    sentence."""

    id: str
    note: str
    consumer: str = ""  # `kind:value`, as in /consumers.
    network: str = ""  # Of consumers named by their address: 198.51.100.0/24.
    workload: str = ""  # Of consumers named by workload; `*` and `?` stand for anything.
    endpoint_id: str = ""
    kind: str = ""  # AlertKind.
    created_at: float
    created_by: str
    expires_at: float
    ended_at: float | None = None
    ended_by: str = ""
    updated_at: float

    def __post_init__(self) -> None:
        if not (self.consumer or self.network or self.workload or self.endpoint_id or self.kind):
            raise ValueError("the rule names nothing; give consumer, network, workload, endpoint_id or kind")
        if self.network:
            try:
                ipaddress.ip_network(self.network)
            except ValueError as error:
                raise ValueError(f"network is {self.network!r} ({error}); use a form like 198.51.100.0/24") from None
        if self.kind and self.kind not in set(AlertKind):
            raise ValueError(f"kind is {self.kind!r}; use one of {', '.join(AlertKind)}")

    def holds(self, now: float) -> bool:
        """Whether it still counts."""
        return self.ended_at is None and now < self.expires_at

    def matches(self, report: Report | Alert) -> bool:
        """Whether all it names is so."""
        kind, _, value = report.consumer.partition(":")
        return (
            (not self.consumer or report.consumer == self.consumer)
            and (not self.network or (kind == "address" and _is_within(value, self.network)))
            and (not self.workload or (kind == "workload" and fnmatchcase(value, self.workload)))
            and (not self.endpoint_id or report.endpoint_id == self.endpoint_id)
            and (not self.kind or report.kind.value == self.kind)
        )


def _is_within(address: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(network)
    except ValueError:
        return False
