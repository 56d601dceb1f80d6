"""The consumer: who calls, named by the first actor column that is known, written `kind:value`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from collector.core.kinds import ConsumerKind
from collector.inventory.endpoints.peers import Holder

CONSUMER_VALUE_CHARACTERS_MAX = 512


class ConsumerError(ValueError):
    """Not a consumer's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerName:
    """Kind and value; the value of a principal or credential is its keyed hash as 16 hex digits."""

    kind: ConsumerKind
    value: str

    @property
    def id(self) -> str:
        return f"{self.kind}:{self.value}"

    @property
    def is_hash(self) -> bool:
        """Whether the value is a keyed hash."""
        return self.kind in (ConsumerKind.PRINCIPAL, ConsumerKind.CREDENTIAL)

    @property
    def parameters(self) -> dict[str, Any]:
        """Of the condition `ConsumerSql.is_named`."""
        if self.is_hash:
            return {"hash": int(self.value, 16)}
        return {} if self.kind is ConsumerKind.OTHER else {"text": self.value}


def parse_consumer(text: str) -> ConsumerName:
    """The name behind `kind:value`; raises ConsumerError with one sentence."""
    kind, separator, value = text.partition(":")
    kinds = ", ".join(ConsumerKind)
    if not separator or kind not in set(ConsumerKind):
        raise ConsumerError(f"consumer {text[:80]!r} has no known kind; write kind:value with a kind of {kinds}")
    parsed = ConsumerKind(kind)
    if len(value) > CONSUMER_VALUE_CHARACTERS_MAX:
        raise ConsumerError(
            f"consumer value is longer than {CONSUMER_VALUE_CHARACTERS_MAX} characters; copy it from /consumers"
        )
    if parsed in (ConsumerKind.PRINCIPAL, ConsumerKind.CREDENTIAL) and not _is_hash(value):
        raise ConsumerError(f"consumer {text[:80]!r} needs 16 hex digits after the colon; copy it from /consumers")
    return ConsumerName(kind=parsed, value=value)


def _is_hash(value: str) -> bool:
    return len(value) == 16 and all(character in "0123456789abcdef" for character in value)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerLabel:
    """What people call one consumer; `changed_at` is unix seconds."""

    consumer: str
    name: str
    note: str
    changed_by: str
    changed_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumer:
    """One consumer over all endpoints in a span. `objects` and `addresses`: distinct ones, estimates where many."""

    name: ConsumerName
    principal_kind: str  # jwt_subject, api_key, ...; empty unless a principal.
    key_id: int  # Installation key that a principal or credential was hashed under; 0 for other kinds.
    endpoints: int
    calls: int
    calls_per_second: float
    errors: int
    denied: int  # 401 and 403.
    objects: int
    addresses: int  # Distinct client addresses it came from.
    figures: Mapping[str, int]  # By column: those that collector/storage/columns.py says are shown of consumers.
    first_seen: int
    last_seen: int
    holders: tuple[Holder, ...]  # Of an address, while it called.
    label: ConsumerLabel | None = None  # What people call it.


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Calls of a consumer from one Pod, node or Service; without a `holder` from addresses that several held at the
    time, or nobody that is known."""

    holder: Holder | None
    addresses: tuple[str, ...]
    calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerEndpoint:
    endpoint_id: str
    method: str
    host: str
    template: str
    calls: int
    errors: int
    objects: int
    first_seen: int
    last_seen: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerDetail:
    """A consumer with the endpoints it touched and the addresses and workloads it came from, busiest first."""

    consumer: Consumer
    endpoints: tuple[ConsumerEndpoint, ...]
    services: dict[str, int]  # Calls by service.
    credentials: dict[str, int]  # Calls by kind of credential; a call with two counts for both.
    addresses: dict[str, int]
    workloads: dict[str, int]
    softwares: dict[str, int]  # Calls of minutes, by client software.
    callers: tuple[Caller, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointConsumer:
    """One consumer of one endpoint; `label` is what people call it, empty where they do not."""

    id: str
    label: str
    calls: int
    last_seen: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointConsumers:
    """Who called an endpoint: `total` consumers with `calls` in all, the busiest as `items`."""

    items: tuple[EndpointConsumer, ...]
    calls: int
    total: int


PRINCIPAL_KINDS: dict[int, str] = {
    0: "",
    1: "jwt_subject",
    2: "jwt_client",
    3: "api_key",
    4: "basic_user",
    5: "session",
    6: "spiffe",
    7: "token",
}
