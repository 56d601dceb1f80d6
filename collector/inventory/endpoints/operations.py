"""Operations that share one path as endpoints of their own: samples from the store in, `Endpoint`s out.

The kernel counts the calls of a path. Which operation a call asked for is known of samples only. So the calls of an
operation are its share of the samples times the calls of its endpoint, its *parent*. They are marked as an estimate.
Its status, credentials, data and callers are those of its own samples. Its latency is not known. The parent keeps all
of its calls, so sums over endpoints exclude operations.

`name_kinds` names the wire's authentication bits (proto AuthenticationKind).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from collector.core.kinds import (
    AUTHENTICATION_UNKNOWN,
    BITS,
    OPERATION_PROTOCOLS,
    POSSIBLE_CREDENTIAL,
    has_credentials,
)
from collector.inventory.endpoints.bodies import read_bodies
from collector.inventory.endpoints.endpoint import Authentication, Endpoint, EndpointOperation, StatusMix, decide_tier
from collector.inventory.query import Span
from collector.storage.records import Reader, select

NAMES: dict[int, str] = {
    1: "basic",
    2: "bearer_opaque",
    3: "bearer_jwt",
    4: "jwt_custom_header",
    5: "api_key_header",
    6: "api_key_query",
    7: "api_key_cookie",
    8: "cookie_session",
    9: "aws_sigv4",
    10: "aws_sigv4_query",
    11: "digest",
    12: "hmac_signature",
    13: "http_message_signature",
    14: "oauth1",
    15: "negotiate",
    16: "mtls_forwarded",
    17: "other",
    23: "possible_credential",
}
# What is weak about a credential that another bit names.
WEAKNESSES: dict[int, str] = {
    19: "jwt_unsigned",
    20: "jwt_known_key",
    21: "jwt_no_expiry",
    22: "jwt_long_lived",
}
NUMBERS: dict[str, int] = {name: number for number, name in NAMES.items()}


def name_kinds(bits: int) -> tuple[str, ...]:
    """Kinds in a bit set, in the wire's order; a bit this collector does not know yet is `kind_N`, never lost."""
    return tuple(
        NAMES.get(number, f"kind_{number}")
        for number in range(1, 32)
        if bits >> number & 1 and number not in WEAKNESSES
    )


def count_by_kind(calls_by_bits: Mapping[int, int]) -> dict[str, int]:
    """Calls by kind; a call with two credentials counts under both, one without any under `none`. Most calls first."""
    counts: dict[str, int] = {}
    for bits, calls in calls_by_bits.items():
        for name in name_kinds(bits) or ("none",):
            counts[name] = counts.get(name, 0) + calls
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def compute_coverage(calls_by_bits: Mapping[int, int]) -> float | None:
    """The share of calls that carried credentials, not only possible ones; None without any."""
    calls = sum(calls_by_bits.values())
    return sum(n for bits, n in calls_by_bits.items() if bits & ~POSSIBLE_CREDENTIAL) / calls if calls else None


def count_weaknesses(calls_by_bits: dict[int, int]) -> dict[str, int]:
    """Calls by what is weak about their credentials, most first."""
    counts: dict[str, int] = {}
    for bits, calls in calls_by_bits.items():
        for number, name in WEAKNESSES.items():
            if bits >> number & 1:
                counts[name] = counts.get(name, 0) + calls
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


# Of its endpoint's figures an operation has its share; of the others nothing is known of it alone.
_SHARED: Final = frozenset(("request_bytes", "response_bytes"))
OPERATIONS_MAX: Final = 20_000  # Read for one question.

_BITS = ", ".join(f"s.protocol = '{name}', {BITS[protocol]}" for name, protocol in OPERATION_PROTOCOLS.items())


def sum_served(rows: str) -> str:
    """Served samples of a row. Of an older sensor, which told calls and errors only, all were served."""
    return f"if({rows}.served + {rows}.refused + {rows}.failed = 0, {rows}.calls, {rows}.served)"


def sum_judged(rows: str) -> str:
    """Of them, those of which it could be seen whether they carried credentials."""
    return _sum_authentication(rows, f"bitAnd(b, {AUTHENTICATION_UNKNOWN}) = 0")


def sum_authenticated(rows: str) -> str:
    """Of these, those that did."""
    return _sum_authentication(rows, f"bitAnd(b, {AUTHENTICATION_UNKNOWN}) = 0 AND {has_credentials('b')}")


def _sum_authentication(rows: str, condition: str) -> str:
    return f"arraySum((b, c) -> if({condition}, c, 0), {rows}.authentication.1, {rows}.authentication.2)"


_NEWEST = "SELECT * FROM operation_samples FINAL"
# One row a route and operation. A share is of the calls of the route.
OPERATIONS = f"""
        SELECT o.*, t.samples AS samples, least(1., o.calls / t.samples) AS share
        FROM (
            SELECT s.route_id AS route_id, s.protocol AS protocol, s.kind AS kind, s.name AS name,
                sum(s.calls) AS calls, sum(s.errors) AS errors, sum({sum_served("s")}) AS served,
                sum(s.refused) AS refused, sum(s.failed) AS failed, sumMap(s.authentication) AS authentication,
                sumMap(s.data) AS data, sum(s.requests_read) AS requests_read, sum(s.responses_read) AS responses_read,
                max(s.consumers) AS consumers, min(s.first_seen) AS first_seen, max(s.last_seen) AS last_seen,
                toUInt32(multiIf({_BITS}, 0)) AS bits
            FROM ({_NEWEST}) AS s
            GROUP BY route_id, protocol, kind, name
        ) AS o
        INNER JOIN (
            SELECT route_id, sum(samples) AS samples FROM (
                SELECT p.route_id AS route_id, max(p.samples) AS samples FROM ({_NEWEST}) AS p
                GROUP BY p.route_id, p.node, p.boot_id, p.generation
            ) GROUP BY route_id
        ) AS t ON t.route_id = o.route_id
        WHERE o.calls > 0"""
# Stable for as long as the parent has its id. 16 hex digits, as those of endpoints.
OPERATION_ID = (
    "leftPad(lower(hex(cityHash64({endpoint}, {operation}.protocol, {operation}.kind, {operation}.name))), 16, '0')"
)
_ID = OPERATION_ID.format(endpoint="e.endpoint_id", operation="o")
_OF_ENDPOINTS = f"""
SELECT {_ID} AS id, e.endpoint_id AS parent_id, o.*
FROM ({OPERATIONS}) AS o
INNER JOIN (
    SELECT route_id, endpoint_id FROM endpoint_routes FINAL
    WHERE route_id IN (SELECT route_id FROM operation_samples)
) AS e ON e.route_id = o.route_id
WHERE {{condition}}
ORDER BY o.calls DESC, id
LIMIT {OPERATIONS_MAX}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationSamples:
    """What the samples of one operation said. `share`: of the calls of its parent; `authentication`: served calls by
    bits; `data`: calls by code, as rows have them."""

    id: str
    operation: EndpointOperation
    share: float
    bits: int  # Of collector/core/kinds.py.
    served: int
    refused: int
    failed: int
    authentication: Mapping[int, int]
    data: tuple[list[int], list[int]]
    requests_read: int
    responses_read: int
    consumers: int
    first_seen: int
    last_seen: int


def has_operations(reader: Reader) -> bool:
    """Whether there are any. Raises StoreError."""
    return bool(select(reader, "SELECT route_id FROM operation_samples LIMIT 1"))


def find_operations(reader: Reader, ids: Iterable[str]) -> dict[str, OperationSamples]:
    """Those of some ids of operations; ids of endpoints are passed over. Raises StoreError."""
    return _find(reader, "id IN {ids:Array(String)}", ids)


def find_operations_of(reader: Reader, parents: Iterable[str]) -> dict[str, OperationSamples]:
    """All operations of some endpoints, most called first. Raises StoreError."""
    return _find(reader, "e.endpoint_id IN {ids:Array(String)}", parents)


def list_recent(reader: Reader, since: int) -> dict[str, int]:
    """When each operation that was sampled since then was called last, by id. Raises StoreError."""
    if not has_operations(reader):
        return {}
    statement = _OF_ENDPOINTS.format(condition="o.last_seen >= {since:UInt32}")
    return {row["id"]: int(row["last_seen"]) for row in select(reader, statement, {"since": since})}


def _find(reader: Reader, condition: str, ids: Iterable[str]) -> dict[str, OperationSamples]:
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for row in select(reader, _OF_ENDPOINTS.format(condition=condition), {"ids": list(ids)}):
        rows.setdefault(row["id"], []).append(row)
    return {name: _read(group) for name, group in rows.items()}


def _read(rows: list[Mapping[str, Any]]) -> OperationSamples:
    """One operation; of several routes of its parent its samples add up."""
    first = rows[0]
    calls = sum(int(row["calls"]) for row in rows)
    samples = sum(int(row["samples"]) for row in rows)
    authentication: dict[int, int] = {}
    data: tuple[list[int], list[int]] = ([], [])
    for row in rows:
        for bits, count in zip(*row["authentication"], strict=True):
            authentication[int(bits)] = authentication.get(int(bits), 0) + int(count)
        data[0].extend(row["data"][0])
        data[1].extend(row["data"][1])
    return OperationSamples(
        id=first["id"],
        operation=EndpointOperation(
            parent_id=first["parent_id"],
            protocol=first["protocol"],
            kind=first["kind"],
            name=first["name"],
            sampled_calls=calls,
            sampled_errors=sum(int(row["errors"]) for row in rows),
            samples=samples,
        ),
        share=min(1.0, calls / samples) if samples else 0.0,
        bits=int(first["bits"]),
        served=sum(int(row["served"]) for row in rows),
        refused=sum(int(row["refused"]) for row in rows),
        failed=sum(int(row["failed"]) for row in rows),
        authentication=authentication,
        data=data,
        requests_read=sum(int(row["requests_read"]) for row in rows),
        responses_read=sum(int(row["responses_read"]) for row in rows),
        consumers=max(int(row["consumers"]) for row in rows),
        first_seen=min(int(row["first_seen"]) for row in rows),
        last_seen=max(int(row["last_seen"]) for row in rows),
    )


def derive(parent: Endpoint, known: OperationSamples, span: Span) -> Endpoint | None:
    """The operation as an endpoint, or None where it was not sampled in the span. What is not known of it alone is
    empty, not its parent's."""
    if known.last_seen and known.last_seen < span.start:
        return None
    calls = max(1, round(parent.calls * known.share))  # It was called, for it was sampled.
    status = _share_status(known, calls)
    judged = {bits: n for bits, n in known.authentication.items() if not bits & AUTHENTICATION_UNKNOWN}
    scale = calls / known.operation.sampled_calls
    scaled = {bits: round(n * scale) for bits, n in judged.items()}
    bodies = read_bodies(
        {
            "request_bodies_read": known.requests_read,
            "response_bodies_read": known.responses_read,
            "records_returned": 0,
            "records_measured": 0,
            "data": known.data,
        }
    )
    return replace(
        parent,
        id=known.id,
        operation=known.operation,
        calls=calls,
        calls_per_second=parent.calls_per_second * known.share,
        first_seen=known.first_seen or parent.first_seen,
        last_seen=known.last_seen or parent.last_seen,
        status=status,
        protocols=(*parent.protocols, OPERATION_PROTOCOLS[known.operation.protocol])
        if known.operation.protocol in OPERATION_PROTOCOLS
        else parent.protocols,
        bodies=bodies,
        figures={name: round(total * known.share) if name in _SHARED else 0 for name, total in parent.figures.items()},
        latency_ms=None,
        latency_max_ms=None,
        time_to_first_byte_ms=None,
        response_size_bytes=None,
        authentication=Authentication(
            coverage=compute_coverage(judged),
            kinds=count_by_kind(scaled),
            unseen_calls=max(0, status.success - sum(scaled.values())),
            weaknesses=count_weaknesses(scaled),
        ),
        consumers=known.consumers,
        tier=decide_tier(status),
        integer_object_calls=0,
        monotonic_steps=0,
        limited_calls=0,
        risk=None,
    )


def _share_status(known: OperationSamples, calls: int) -> StatusMix:
    """Calls by class, as the samples had them; their sum is `calls`."""
    sampled = known.operation.sampled_calls
    refused, failed = (round(calls * count / sampled) for count in (known.refused, known.failed))
    success = min(calls - refused - failed, round(calls * known.served / sampled))
    return StatusMix(
        informational=0,
        success=max(0, success),
        redirection=max(0, calls - refused - failed - max(0, success)),
        client_error=refused,
        server_error=failed,
        aborted=0,
        not_read=0,
    )
