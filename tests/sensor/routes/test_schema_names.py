"""Names of RPC services and methods: what of them is revealed, by what the server answered and by their form."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor.core.calls import Segment, SegmentKind
from sensor.routes.schema_names import Naming, find_names, judge_schema_name
from sensor.routes.shared_use import Telling
from sensor.routes.templating import Templater
from sensor.routes.trie import UNSERVED_SERVICE_PART, TableLimits
from sensor.routes.vocabulary import load_vocabulary
from tests.sensor.records import START_NS, make_origin
from tests.sensor.routes.test_templating import SERVICE, _templater

VOCABULARY = load_vocabulary()
TOLD = (
    "grpc.health.v1.Health", "Check", "Watch", "SayHello", "BatchCreateNotes", "Range", "Txn",
    "DeleteRange", "opentelemetry.proto.collector.trace.v1.TraceService", "Export", "KV",
    "envoy.service.discovery.v3.AggregatedDiscoveryService", "StreamAggregatedResources", "FullDuplexCall",
    "runtime.v1.RuntimeService", "temporal.api.workflowservice.v1.WorkflowService", "PollWorkflowTaskQueue",
    "AllBalances", "OAuth2", "Sha256Sum", "get_user",
)  # fmt: skip
SHARED = (
    "etcdserverpb.KV", "hipstershop.CartService", "helloworld.Greeter",
    "GetKowalczyk", "GetZorblatt", "sendToTimbuktuville", "GetJordanOrders",
)  # fmt: skip
KEPT = (
    "john", "JohnSmith", "anna_schmidt", "martin", "john.smith", "user_4711", "tok_8f3a", "deadbeefcafe12",
    "x7k9q2p1", "aXbYcZdWqE", "QWxhZGRpbjpvcGVu", "eyJhbGciOiJIUzI1NiJ9", "sk_live_51Hdeadbeef", "a..b", "4711",
    "a@b.de", "xkcdqrtzvbnm",
)  # fmt: skip


@pytest.mark.parametrize(
    ("telling", "name"),
    [
        *((Telling.NOW, name) for name in TOLD),
        *((Telling.SHARED, name) for name in SHARED),
        *((Telling.NEVER, name) for name in KEPT),
    ],
)
def test_names_of_known_words_leave_at_once_and_values_never(telling: Telling, name: str) -> None:
    assert judge_schema_name(name, VOCABULARY) is telling


@given(st.text(max_size=200))
def test_never_raises(text: str) -> None:
    judge_schema_name(text, VOCABULARY)


def route(templater: Templater, path: str, status: int = 200, naming: Naming = Naming.SERVED):
    return templater.route(SERVICE, "h", "POST", path, status, make_origin(), START_NS, naming=naming)


def find_texts(templater: Templater, path: str, status: int = 200, naming: Naming = Naming.SERVED) -> list[str]:
    segments = route(templater, path, status, naming).route.segments
    return [segment.text if segment.kind in (SegmentKind.LITERAL, SegmentKind.WORD) else "{}" for segment in segments]


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


SERVED_NAMES = (
    "Method0", "Method59", "Say0", "A1", "B2", "Get_2fa", "Do_2", "Step1_2", "V1", "get_v2_3", "Sha256", "xDS", "Bar",
    "JohnSmith", "Chase", "do-thing", "Strngth", "RPC2023", "Käse", "K%C3%A4se",
)  # fmt: skip


@pytest.mark.parametrize("name", SERVED_NAMES)
def test_a_method_that_the_server_knows_is_a_literal_whatever_its_name(name: str) -> None:
    raw = name.encode().decode("latin-1")  # As heads are read.
    segments = route(_templater(), f"/zorp.v1.Blatt/{raw}").route.segments
    text = "Käse" if "K" in name and "se" in name else name
    assert segments == (Segment(SegmentKind.LITERAL, "zorp.v1.Blatt"), Segment(SegmentKind.LITERAL, text))


@pytest.mark.parametrize("name", ["Say0", "KV", "ListOrders", "Bar", "BatchCreateNotes"])
def test_a_name_of_known_words_is_a_literal_once_the_protocol_answered(name: str) -> None:
    assert find_texts(_templater(), f"/shop.v1.Orders/{name}", naming=Naming.ANSWERED) == ["shop.v1.Orders", name]


def test_another_name_is_a_literal_only_once_its_server_knows_it() -> None:
    templater, path = _templater(), "/zorp.v1.Blatt/GetKowalczyk"
    assert find_texts(templater, path, naming=Naming.ANSWERED) == ["zorp.v1.Blatt", ""]
    assert find_texts(templater, path, naming=Naming.SERVED) == ["zorp.v1.Blatt", "GetKowalczyk"]


@pytest.mark.parametrize("name", ["ada@example.org", "deadbeefcafe12deadbeef", "4111111111111111", "a{}b", "<unknown>"])
def test_what_has_the_form_of_a_value_is_never_revealed(name: str) -> None:
    for naming in Naming:
        told = find_texts(_templater(), f"/zorp.v1.Blatt/{name}", naming=naming)[1]
        assert told in ("", "{}")


@pytest.mark.parametrize("path", ["/users/zorpblatt", "/users/JohnSmith", "/api.v2/Maria", "/john.smith/Zorp"])
def test_a_caller_that_calls_a_path_an_rpc_reveals_nothing(path: str) -> None:
    """The server speaks plain HTTP: its answers do not show an RPC."""
    plain = _templater().route(SERVICE, "h", "POST", path, 200, make_origin(), START_NS).route
    assert route(_templater(), path, 200, Naming.NONE).route == plain
    assert "Maria" not in find_texts(_templater(), "/api.v2/Maria", naming=Naming.ANSWERED)
    assert "john.smith" not in find_texts(_templater(), "/john.smith/Zorp", naming=Naming.ANSWERED)


def test_names_that_no_server_knows_are_bounded_and_hidden() -> None:
    """Anybody may call methods that are not there: a scanner does not fill the inventory."""
    templater = _templater()
    told, texts = set(), set[str]()
    for number in range(3_000):
        name = "Zuess" + "".join(chr(97 + int(digit)) + "o" for digit in f"{number:04d}")
        found = route(templater, f"/zorp.v1.Blatt{number % 300}/{name}", 501, Naming.NONE).route
        told.add(found.route_id)
        texts |= {segment.text for segment in found.segments}
    assert len(told) <= TableLimits().unserved_routes // UNSERVED_SERVICE_PART + 1
    assert texts == {""}
    assert find_texts(templater, "/zorp.v1.Blatt/Zing") == ["zorp.v1.Blatt", "Zing"]


def test_names_that_were_called_in_vain_are_revealed_once_the_server_knows_them() -> None:
    templater = _templater()
    before = route(templater, "/zorp.Blatt/Zing", 501, Naming.NONE).route
    assert [segment.text for segment in before.segments] == ["", ""]
    after = route(templater, "/zorp.Blatt/Zing").route
    assert [segment.text for segment in after.segments] == ["zorp.Blatt", "Zing"]
    assert after.route_id == before.route_id  # So the collector's rows of both are one endpoint once it has asked.
    assert templater.reveals > 0
    hidden = [segment.hash for segment in before.segments]
    assert templater.apply_reveal(hidden) == dict(zip(hidden, ["zorp.Blatt", "Zing"], strict=True))


@given(st.text(max_size=300), st.text(max_size=300), st.sampled_from(Naming))
def test_names_never_raise(service: str, method: str, naming: Naming) -> None:
    find_names(service, method, naming, VOCABULARY)


def test_a_name_that_may_be_a_value_is_a_word_told_by_its_hash() -> None:
    found = route(_templater(), "/shop.Orders/JohnSmith0", naming=Naming.NONE)
    assert found.route.segments[1].text == ""


def test_a_path_before_the_names_is_read_as_any_path() -> None:
    assert find_texts(_templater(), "/tenants/4711/zorp.v1.Blatt/Say0") == ["tenants", "{}", "zorp.v1.Blatt", "Say0"]


def test_a_path_that_spells_unknown_is_none_that_is() -> None:
    templater = _templater()
    unknown = templater.route_unknown(SERVICE, "h", "POST", b"placeholder", 200, make_origin(), START_NS)
    assert unknown.route.segments == (Segment(SegmentKind.LITERAL, "<unknown>"),)
    spelt = templater.route(SERVICE, "h", "POST", "/<unknown>", 200, make_origin(), START_NS)
    assert spelt.route.route_id != unknown.route.route_id
    assert templater.route_unknown(SERVICE, "h", "POST", b"placeholder", 200, make_origin(), START_NS) == unknown
    assert (
        templater.route_unknown(SERVICE, "h", "POST", b"another", 200, make_origin(), START_NS).object_hash
        != unknown.object_hash
    )


@pytest.mark.parametrize("word", ["red", "lib", "port", "town", "will"])
def test_words_of_english_are_no_names_because_a_list_has_them(word: str) -> None:
    assert not VOCABULARY.is_name(word)


@pytest.mark.parametrize("name", ["anna", "johnsmith", "j-garcia", "ruth", "rose", "chen42"])
def test_names_are_never_revealed(name: str) -> None:
    assert VOCABULARY.is_name(name)
