"""Names of RPC services and methods: told where they are made of words, whatever words, and kept where they look like
values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor.calls import Segment, SegmentKind
from sensor.schema_names import is_schema_name
from sensor.templating import Templater
from sensor.trie import MAX_UNSERVED_LITERALS
from sensor.vocabulary import load_vocabulary
from tests.sensor.test_templating import SERVICE, _templater

VOCABULARY = load_vocabulary()
TOLD = (
    "grpc.health.v1.Health", "Check", "Watch", "helloworld.Greeter", "SayHello", "BatchCreateNotes",
    "etcdserverpb.KV", "Range", "Txn", "DeleteRange", "google.devtools.containeranalysis.v1beta1.GrafeasV1Beta1",
    "opentelemetry.proto.collector.trace.v1.TraceService", "Export",
    "envoy.service.discovery.v3.AggregatedDiscoveryService", "StreamAggregatedResources", "hipstershop.CartService",
    "FullDuplexCall", "runtime.v1.RuntimeService", "RunPodSandbox", "routeguide.RouteGuide", "ListFeatures",
    "temporal.api.workflowservice.v1.WorkflowService", "PollWorkflowTaskQueue", "cosmos.bank.v1beta1.Query",
    "AllBalances", "OAuth2", "Sha256Sum", "get_user",
)  # fmt: skip
KEPT = (
    "john", "JohnSmith", "anna_schmidt", "martin", "john.smith", "user_4711", "tok_8f3a", "deadbeefcafe12",
    "x7k9q2p1", "aXbYcZdWqE", "QWxhZGRpbjpvcGVu", "eyJhbGciOiJIUzI1NiJ9", "sk_live_51Hdeadbeef", "a..b", "4711",
    "a@b.de", "xkcdqrtzvbnm",
)  # fmt: skip


@pytest.mark.parametrize("name", TOLD)
def test_names_of_real_schemas_are_told(name: str) -> None:
    assert is_schema_name(name, VOCABULARY)


@pytest.mark.parametrize("name", KEPT)
def test_what_looks_like_a_value_is_kept(name: str) -> None:
    assert not is_schema_name(name, VOCABULARY)


@given(st.text(max_size=200))
def test_never_raises(text: str) -> None:
    is_schema_name(text, VOCABULARY)


def route(templater: Templater, path: str, status: int = 200):
    return templater.route(SERVICE, "h", "POST", path, status, 1, is_named=True)


def test_many_methods_stay_methods() -> None:
    """Past the words that a position may have, other paths have parameters there."""
    templater = _templater()
    methods = [f"Do{chr(65 + first)}ing{chr(97 + second)}ol" for first in range(20) for second in range(10)]
    for method in methods:
        found = route(templater, f"/zorp.Blatt/{method}")
        assert found.route.segments == (
            Segment(SegmentKind.LITERAL, "zorp.Blatt"),
            Segment(SegmentKind.LITERAL, method),
        )
        assert found.object_hash == 0


def test_a_name_that_may_be_a_value_is_a_word_told_by_its_hash() -> None:
    found = route(_templater(), "/shop.v1.Orders/JohnSmith")
    assert found.route.segments[0] == Segment(SegmentKind.LITERAL, "shop.v1.Orders")
    assert (found.route.segments[1].kind, found.route.segments[1].text) == (SegmentKind.WORD, "")


def test_names_that_were_never_served_are_bounded() -> None:
    """Anybody may call methods that are not there: a scanner does not fill the inventory."""
    templater = _templater()
    told = set()
    for number in range(3 * MAX_UNSERVED_LITERALS):
        name = "Guess" + "".join(chr(97 + int(digit)) + "o" for digit in f"{number:03d}")
        told.add(route(templater, f"/shop.v1.Orders/{name}", 501).route.route_id)
    assert len(told) <= MAX_UNSERVED_LITERALS + MAX_UNSERVED_LITERALS
    assert route(templater, "/shop.v1.Orders/Real").route.segments[1].text == "Real"


def test_a_path_before_the_names_is_read_as_any_path() -> None:
    found = route(_templater(), "/tenants/4711/shop.v1.Orders/Lookup")
    kinds = [segment.kind for segment in found.route.segments]
    assert kinds == [SegmentKind.LITERAL, SegmentKind.INTEGER, SegmentKind.LITERAL, SegmentKind.LITERAL]


def test_a_path_that_spells_unknown_is_none_that_is() -> None:
    templater = _templater()
    unknown = templater.route_unknown(SERVICE, "h", "POST", b"placeholder", 200)
    assert unknown.route.segments == (Segment(SegmentKind.LITERAL, "<unknown>"),)
    spelt = templater.route(SERVICE, "h", "POST", "/<unknown>", 200, 1)
    assert spelt.route.route_id != unknown.route.route_id
    assert templater.route_unknown(SERVICE, "h", "POST", b"placeholder", 200) == unknown
    assert templater.route_unknown(SERVICE, "h", "POST", b"another", 200).object_hash != unknown.object_hash
