"""Methods of gRPC, gRPC-Web and Connect from the heads of their calls to the collector's endpoints."""

from collections import defaultdict
from collections.abc import Iterable

import pytest

from collector.core.rows import Route
from collector.inventory.naming import WORD
from collector.inventory.templates.catalogue import map_endpoints
from collector.inventory.templates.path_trie import RouteEvidence
from sensor.http.http2.exchange import build_stream_exchange
from tests.accuracy.node import START_SECONDS, Node
from tests.sensor.describe.test_kinds import AT, MESSAGE
from tests.sensor.http.http2_talk import CLIENT, SECOND, SERVER, Ends
from tests.sensor.http.http2_wire import write_data, write_headers

OK, NOT_FOUND, UNIMPLEMENTED, UNAUTHENTICATED = b"0", b"5", b"12", b"16"
Call = tuple[str, bytes]  # Path, status.


def _to_unix_ns(time_ns: int) -> int:
    return START_SECONDS * SECOND + time_ns


class Service:
    """One service, the sensor beside it, and what a collector makes of what that says."""

    def __init__(self) -> None:
        self._node = Node("zorp")
        self._ends = Ends()
        self._stream = -1
        self._routes: dict[int, Route] = {}
        self._calls: dict[int, list[bool]] = defaultdict(list)

    def call(self, path: str, status: bytes | None, *, answer: bytes = b"application/grpc") -> None:
        """A call of gRPC; with no `status` the answer is plain HTTP."""
        ends = self._ends
        self._stream += 2
        fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", path.encode()), (b":authority", b"h"),
                  (b"content-type", b"application/grpc")]  # fmt: skip
        ends.seen.say(CLIENT, write_headers(self._stream, ends.request.encode(fields)))
        ends.seen.say(CLIENT, write_data(self._stream, MESSAGE, is_end=True))
        ends.reply(self._stream, b"200", (b"content-type", answer))
        if status is not None:
            trailers = ends.response.encode([(b"grpc-status", status)])
            ends.seen.say(SERVER, write_headers(self._stream, trailers, is_end=True))
        else:
            ends.seen.say(SERVER, write_data(self._stream, b"{}", is_end=True))
        self._take(self._node.see_exchange(build_stream_exchange(AT, ends.seen.calls[-1], _to_unix_ns)))
        self._calls[self._node.last_route_id].append(status in (OK, None))

    def call_http1(self, path: str, content_type: str, *fields: str) -> None:
        lines = (f"POST {path} HTTP/1.1", "Host: h", f"Content-Type: {content_type}", *fields, "", "")
        self._take(self._node.see("\r\n".join(lines).encode(), 200, 1))
        self._calls[self._node.last_route_id].append(True)

    def _take(self, batches: Iterable[object]) -> None:
        for batch in batches:
            self._routes |= {route.route_id: route for route in batch.routes}  # type: ignore[attr-defined]

    def list_templates(self) -> list[str]:
        """Templates of the endpoints at the end, words revealed where the sensor allows it."""
        self._take(self._node.flush())
        evidence = [
            RouteEvidence(
                route=route, calls=len(self._calls[number]), served_calls=sum(self._calls[number]), is_rpc=True
            )
            for number, route in self._routes.items()
        ]
        hidden = {segment.hash for one in evidence for segment in one.route.segments if segment.kind == WORD}
        words = self._node.templater.apply_reveal(sorted(hidden))
        return sorted({endpoint.template for endpoint in map_endpoints(evidence, words).values()})


METHODS = {
    "numbered": [f"Method{number}" for number in range(60)],
    "odd": ["Say0", "Say1", "Say2", "A1", "B2", "Get_2fa", "Do_2", "Step1_2", "V1", "Sha256", "xDS", "Bar", "Emma"],
    "other_characters": ["Käse", "Ærø2", "do-thing", "do-thing-2", "名前"],
}


@pytest.mark.parametrize("methods", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("status", [OK, NOT_FOUND])
def test_every_method_of_two_services_is_an_endpoint_of_its_own(methods: list[str], status: bytes) -> None:
    service = Service()
    paths = [f"/{name}/{method}" for name in ("zorp.v1.Blatt", "zorp.v1.Blatt2") for method in methods]
    for _ in range(3):
        for path in paths:
            service.call(path, status)
    assert service.list_templates() == sorted(paths)


def test_a_method_that_was_denied_first_is_one_endpoint_with_its_served_calls() -> None:
    service = Service()
    for status in (UNAUTHENTICATED, OK):
        for number in range(5):
            service.call(f"/zorp.v1.Blatt/Zing{number}", status)
    assert [f"/zorp.v1.Blatt/Zing{number}" in service.list_templates() for number in range(5)] == [True] * 5


def test_calls_of_methods_that_are_not_there_reveal_no_word_and_stay_few() -> None:
    service = Service()
    service.call("/zorp.v1.Blatt/Zing", OK)
    for number in range(500):
        service.call(
            f"/zorp.v1.Blatt/Zonk{'abcdefghij'[number % 10]}{'klmnopqrst'[number // 10 % 10]}{number}", UNIMPLEMENTED
        )
        service.call(f"/maria{number % 7}/Zonk", UNIMPLEMENTED)
    templates = service.list_templates()
    assert "/zorp.v1.Blatt/Zing" in templates
    assert not any("Zonk" in one or "maria" in one for one in templates)
    assert len(templates) < 10


def test_a_server_of_plain_http_that_is_called_with_grpcs_content_type_reveals_no_word() -> None:
    service = Service()
    for name in ("zorpine", "emma", "blattina"):
        service.call(f"/users/{name}", None, answer=b"application/json")
        service.call_http1(f"/members/{name}", "application/json", "Connect-Protocol-Version: 1")
        service.call_http1(f"/members.Of/{name}", "application/json", "Connect-Protocol-Version: 1")
    assert not any(name in one for one in service.list_templates() for name in ("zorpine", "emma", "blattina"))


@pytest.mark.parametrize(
    ("content_type", "fields"),
    [("application/json", ("Connect-Protocol-Version: 1",)), ("application/proto", ("Connect-Protocol-Version: 1",))],
)
def test_unary_methods_of_connect_are_endpoints(content_type: str, fields: tuple[str, ...]) -> None:
    service = Service()
    """Anybody may call such a name at a server of plain HTTP, so one that is no word of APIs is hidden."""
    paths = sorted(f"/zorp.v1.Blatt/{method}" for method in ("Say", "Say0", "KV", "Method17", "GetOrder"))
    for path in [*paths, "/zorp.v1.Blatt/Emma", "/zorp.v1.Blatt/GetKowalczyk"] * 2:
        service.call_http1(path, content_type, *fields)
    assert service.list_templates() == [*paths, "/zorp.v1.Blatt/{word}"]
