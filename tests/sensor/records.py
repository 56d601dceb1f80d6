"""Exchanges and call records for tests: one maker of each with honest defaults, and Hypothesis strategies of them."""

from typing import Any, TypeVar

import msgspec
from hypothesis import strategies as st

from sensor.core.calls import (
    AuthenticationKind,
    BodyFacts,
    BodyFlag,
    CallFigures,
    CallKind,
    CallProtocol,
    CallRecord,
    CallTarget,
    Contents,
    Credentials,
    Ends,
    Exchange,
    Hop,
    KernelHashes,
    NamedEnds,
    Origin,
    PrincipalKind,
    Role,
    Route,
    Segment,
    SegmentKind,
    Service,
    WorkloadKind,
)

_Part = TypeVar("_Part", bound=msgspec.Struct)
_Whole = TypeVar("_Whole", Exchange, CallRecord)

SECOND_NS = 1_000_000_000
# A whole minute, so that windows and merged windows begin here.
START_NS = 1_700_000_040 * SECOND_NS


def make_origin(network: int = 1, principal: int | None = None) -> Origin:
    """A caller at a network, which is its principal too unless one is named."""
    number = network if principal is None else principal
    return Origin(consumer=number, network=network, principal=number)


def make_service(workload: str = "nginx.service", port: int = 80) -> Service:
    return Service(
        cluster="test",
        namespace="",
        workload=workload,
        workload_kind=WorkloadKind.SYSTEMD_UNIT,
        host_name="node-1",
        port=port,
    )


def make_route(route_id: int = 1, *, workload: str = "nginx.service", method: str = "GET") -> Route:
    return Route(
        route_id=route_id,
        service=make_service(workload),
        host="shop.test",
        method=method,
        segments=(
            Segment(SegmentKind.LITERAL, text="users"),
            Segment(SegmentKind.WORD, hash=77, length=5),
            Segment(SegmentKind.INTEGER),
        ),
        has_trailing_slash=False,
    )


ROUTE = make_route()


def make_exchange(**changes: Any) -> Exchange:
    """A finished 200 of HTTP/1 as the server saw it, with the named fields of its parts changed."""
    fields: dict[str, Any] = {
        "time_unix_ns": 0, "connection": 1, "role": Role.SERVER, "cgroup_id": 1, "peer_cgroup_id": 0,
        "local_address": "127.0.0.1", "local_port": 80, "remote_address": "127.0.0.1", "remote_port": 40_000,
        "status_code": 200, "request_bytes": 1, "response_bytes": 1, "time_to_first_byte_ns": 1, "duration_ns": 1,
        "calls": 1, "is_final": True, "is_aborted": False, "is_lossy": False, "call": 0,
        **changes,
    }  # fmt: skip
    hashes = KernelHashes(*(fields.pop(name, 0) for name in KernelHashes.__struct_fields__))
    parts = {"ends": _pop_part(Ends, fields), "figures": _pop_part(CallFigures, fields)}
    return Exchange(**parts, **fields, hashes=hashes)


def make_record(**changes: Any) -> CallRecord:
    """A finished 200 of an anonymous client, with the named fields of its parts changed."""
    fields: dict[str, Any] = {
        "time_unix_ns": START_NS, "route": ROUTE, "role": Role.SERVER, "hop": Hop.ENDPOINT, "status_code": 200,
        "protocol_version": "1.1", "principal": 0, "principal_kind": PrincipalKind.UNSPECIFIED, "credential": 0,
        "is_truncated": False, "client_address": "192.0.2.1", "client_workload": "", "client_software": "",
        "authentication": AuthenticationKind.NONE, "is_encrypted": False, "request_content_type": "",
        "response_content_type": "application/json", "request_bytes": 100, "response_bytes": 1_000,
        "time_to_first_byte_ns": 2_000_000, "duration_ns": 3_000_000, "calls": 1, "is_final": True,
        "is_aborted": False, "is_lossy": False, "object_hash": 0, "object_number": None,
        **changes,
    }  # fmt: skip
    record = CallRecord(
        figures=_pop_part(CallFigures, fields),
        ends=_pop_part(NamedEnds, fields),
        credentials=_pop_part(Credentials, fields),
        target=_pop_part(CallTarget, fields),
        protocol=_pop_part(CallProtocol, fields),
        contents=_pop_part(Contents, fields),
    )
    assert not fields, f"no part of a record has {sorted(fields)}"
    return record


def change_fields(whole: _Whole, **changes: Any) -> _Whole:
    """An exchange or a record with the named fields of its parts changed."""
    parts = {name: getattr(whole, name) for name in whole.__struct_fields__}
    for name, value in parts.items():
        if isinstance(value, msgspec.Struct):
            own = {field: changes.pop(field) for field in value.__struct_fields__ if field in changes}
            parts[name] = msgspec.structs.replace(value, **own)
    return msgspec.structs.replace(whole, **{**parts, **changes})


def _pop_part(part: type[_Part], fields: dict[str, Any]) -> _Part:
    """The part made of those fields that are its own."""
    return part(**{name: fields.pop(name) for name in part.__struct_fields__ if name in fields})


routes = st.sampled_from([make_route(1), make_route(2, workload="api"), make_route(3, workload="web", method="POST")])
hashes = st.integers(min_value=1, max_value=2**64 - 1)


messages = st.one_of(st.none(), st.integers(0, 3))
# What a call is besides HTTP, and what of it is not known.
rare = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(CallKind),
        "rpc_status": st.one_of(st.none(), st.integers(0, 16)),
        "request_messages": messages,
        "response_messages": messages,
        "is_stream": st.booleans(),
        "has_unknown_fields": st.booleans(),
        "is_inferred": st.booleans(),
    }
)


def _make_body(flags: int, records: int, codes: set[int]) -> BodyFacts:
    """Nothing is found in a body that was not read, and no records are told that are not known."""
    known = BodyFlag(flags)
    flags_of = {1: BodyFlag.REQUEST_READ, 2: BodyFlag.RESPONSE_READ}
    data = tuple(sorted(code for code in codes if flags_of.get(code >> 6, BodyFlag.HEAD_READ) in known))
    return BodyFacts(records if known & (BodyFlag.MEASURED | BodyFlag.ESTIMATED) else 0, data, known)


# What bodies told: counted or estimated, not both.
bodies = st.one_of(
    st.none(),
    st.none(),
    st.builds(
        _make_body,
        st.sampled_from([0, 1, 2, 3, 4, 8, 6, 10, 7, 11, 16, 27]),
        st.integers(0, 10**6),
        st.sets(st.integers(64, 447), max_size=8),
    ),
)


@st.composite
def records(draw: st.DrawFn, *, span_seconds: int = 150) -> CallRecord:
    """Any record: closing parts, aborted calls, several consumers, times out of order."""
    principal = draw(st.sampled_from([0, 0, 11, 12, 13, 14, 15, 16]))
    object_hash = draw(st.one_of(st.just(0), st.integers(1, 40), hashes))
    return make_record(
        time_unix_ns=START_NS + draw(st.integers(0, span_seconds * SECOND_NS)),
        route=draw(routes),
        role=draw(st.sampled_from(Role)),
        status_code=draw(st.sampled_from([0, 200, 201, 404, 500])),
        principal=principal,
        principal_kind=PrincipalKind.TOKEN if principal else PrincipalKind.UNSPECIFIED,
        authentication=draw(st.sampled_from([AuthenticationKind.NONE, AuthenticationKind.BASIC])),
        client_address=draw(st.sampled_from(["192.0.2.1", "192.0.2.2"])),
        request_bytes=draw(st.integers(0, 10_000)),
        response_bytes=draw(st.integers(0, 10**9)),
        time_to_first_byte_ns=draw(st.integers(0, 10**10)),
        duration_ns=draw(st.integers(0, 10**11)),
        calls=draw(st.sampled_from([1, 1, 1, 0])),
        is_final=draw(st.booleans()),
        is_lossy=draw(st.booleans()),
        is_ambiguous=draw(st.booleans()),
        object_hash=object_hash,
        object_number=draw(st.one_of(st.none(), st.integers(0, 2**63 - 1))) if object_hash else None,
        body=draw(bodies),
        **draw(st.one_of(st.just({}), rare)),
    )
