"""Paths that are inferred from sibling connections: only where there is one answer, and how often that is right."""

from collections import Counter

import msgspec
import pytest

from sensor.calls import CallKind, CallRecord, Exchange, Role
from sensor.describe import Describer, DescribeSettings
from sensor.keyed import KeyedHash
from sensor.kinds import CallFacts, read_stream
from sensor.protocols.http2_calls import StreamCall
from sensor.protocols.http2_heads import UNKNOWN_PATH, StreamRequest
from sensor.siblings import MIN_ALIKE, MIN_CALLS, Siblings
from sensor.streams.exchange import Ends, build_stream_exchange
from sensor.templating import Templater
from sensor.vocabulary import load_vocabulary
from tests.sensor.protocols.test_http2_live import grpc_recording, read  # noqa: F401
from tests.sensor.records import make_record
from tests.sensor.test_describe import SERVICE, _Identity

OLD = 7
UNKNOWN = CallFacts(unknown=b"placeholder", is_request_unknown=True)


def exchange_of(call: StreamCall, connection: int) -> Exchange:
    ends = Ends(connection, Role.SERVER, 3, 4, "192.0.2.1", 80, "10.0.0.1", 5_000)
    return build_stream_exchange(ends, call, int).exchange


def see(siblings: Siblings, call: StreamCall, connection: int) -> None:
    assert isinstance(call.request, StreamRequest)
    record = make_record(client_workload="shop")
    siblings.see(exchange_of(call, connection), call.request.head, read_stream(connection, call, call.request), record)


def infer_steadily(siblings: Siblings, call: StreamCall, client: str = "shop") -> str:
    """After as many like it as are asked for."""
    for _ in range(MIN_ALIKE):
        named = infer(siblings, call, client=client)
    return named


def infer(siblings: Siblings, call: StreamCall, facts: CallFacts = UNKNOWN, client: str = "shop") -> str:
    service = make_record().route.service
    named = siblings.infer(exchange_of(call, OLD), "POST", facts, client, service)
    return named.path if named is not None else ""


@pytest.fixture
def by_path(grpc_recording) -> dict[str, list[StreamCall]]:  # type: ignore[no-untyped-def]  # noqa: F811
    found: dict[str, list[StreamCall]] = {}
    for call in read(grpc_recording)[1]:
        assert isinstance(call.request, StreamRequest)
        found.setdefault(call.request.head.path, []).append(call)
    return found


def learn(calls: list[StreamCall]) -> Siblings:
    siblings = Siblings()
    for number, call in enumerate(calls):
        see(siblings, call, 101 + number % 3)
    return siblings


def test_precision_over_all_pairs_of_methods(by_path: dict[str, list[StreamCall]]) -> None:
    """New connections call one method; the old one calls the same, or another that it alone calls."""
    same, other = Counter[str](), Counter[str]()
    for known, calls in by_path.items():
        for path, old in by_path.items():
            siblings = learn(calls[::2])
            for call in old:
                named = infer(siblings, call, msgspec.structs.replace(UNKNOWN, rpc_status=call.grpc_status))
                (same if known == path else other)["right" if named == path else "wrong" if named else "unknown"] += 1
    print(f"the same method: {dict(same)}; another: {dict(other)}")
    assert same["wrong"] == 0 and same["right"] >= 0.5 * same.total()
    # Nobody can rule this out but by the sizes of calls: why such names are told as inferred.
    assert other["wrong"] <= 0.2 * other.total()


def test_a_client_of_two_methods_names_nothing(by_path: dict[str, list[StreamCall]]) -> None:
    first, second = list(by_path.values())[:2]
    siblings = learn([*first, second[0]])
    assert {infer_steadily(siblings, call) for call in first} == {""}


def test_a_connection_with_two_unknown_endpoints_names_nothing(by_path: dict[str, list[StreamCall]]) -> None:
    path, calls = next(iter(by_path.items()))
    siblings = learn(calls)
    assert infer_steadily(siblings, calls[2]) == path
    assert infer(siblings, calls[2], CallFacts(unknown=b"another")) == ""
    assert infer_steadily(siblings, calls[2]) == ""


def test_too_little_evidence_names_nothing(by_path: dict[str, list[StreamCall]]) -> None:
    calls = next(iter(by_path.values()))
    few, single = learn(calls[: MIN_CALLS - 1]), Siblings()
    for call in calls:
        see(single, call, 101)
    assert infer_steadily(few, calls[2]) == infer_steadily(single, calls[2]) == ""
    for client in ("another", ""):
        assert infer_steadily(learn(calls), calls[2], client=client) == ""
    assert infer(learn(calls), calls[2]) == ""  # The first of its like.


def test_the_describer_tells_it_as_inferred(by_path: dict[str, list[StreamCall]]) -> None:
    keyed_hash = KeyedHash(1, b"0123456789abcdef")
    describer = Describer(Templater(load_vocabulary(), keyed_hash), _Identity(), keyed_hash, DescribeSettings())
    calls = by_path["/shop.v1.Orders/Get"]

    def describe(call: StreamCall, connection: int) -> CallRecord:
        ends = Ends(connection, Role.SERVER, 3, 4, "192.0.2.1", 80, "10.0.0.1", 5_000)
        record = describer.describe(build_stream_exchange(ends, call, int))
        assert isinstance(record, CallRecord)
        return record

    known = [describe(call, 101 + number % 3) for number, call in enumerate(calls)]
    assert isinstance(calls[5].request, StreamRequest)
    hidden = _hide(calls[5])
    first, *_, record = [describe(hidden, OLD) for _ in range(MIN_ALIKE)]
    assert (first.is_inferred, first.kind) == (False, CallKind.HTTP)
    assert record.route is known[0].route and record.route.service == SERVICE
    assert (record.is_inferred, record.has_unknown_fields, record.kind) == (True, True, CallKind.GRPC)
    assert record.object_hash == 0


def _hide(call: StreamCall) -> StreamCall:
    assert isinstance(call.request, StreamRequest)
    head = msgspec.structs.replace(call.request.head, path=UNKNOWN_PATH, host="", headers=[], content_type="")
    request = msgspec.structs.replace(call.request, head=head, rpc=None, unknown_fields=3)
    return msgspec.structs.replace(call, request=request, rpc=None, has_unknown_fields=True)
