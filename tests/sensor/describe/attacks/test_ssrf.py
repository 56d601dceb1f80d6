"""A request that names a host is matched with the call that the service then makes, in whatever form the host is."""

from collections.abc import Iterator
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.bench_cases.http2 import ReplayDescriber
from sensor.agent.pipeline import Pipeline
from sensor.aggregate.aggregator import Aggregator
from sensor.core.calls import CallRecord, Exchange, Handshake, RawBodies, Role
from sensor.core.clock import Clock
from sensor.core.health import AttackAccount
from sensor.core.keyed import KeyedHash
from sensor.describe.attacks.classes import EVIDENCE_MASK, AttackEvidence
from sensor.describe.attacks.ssrf import LEARNING_NS, WAIT_NS, RequestForgery, list_hosts, read_address
from sensor.describe.describer import DescribeSettings
from sensor.export.convert import BatchConverter
from sensor.routes.templating import Templater
from sensor.routes.vocabulary import load_vocabulary
from tests.accuracy.node import OneService
from tests.sensor.records import START_NS, make_exchange

SERVICE, OTHER = 11, 12  # Cgroups.
CLIENT = "203.0.113.9"
METADATA = "169.254.169.254"
SECOND = 10**9
SSRF, NOTHING = 5, -1


class Node:
    """A describer, and what is found of its calls."""

    def __init__(self, *, watched: bool = True) -> None:
        keyed_hash = KeyedHash(1, b"sixteen bytes!!!")
        self.account = AttackAccount()
        self.describer = ReplayDescriber(
            Templater(load_vocabulary(), keyed_hash), OneService("shop"), keyed_hash, DescribeSettings(),
            forgery=RequestForgery(keyed_hash, self.account),
        )  # fmt: skip
        self.now = START_NS
        self.connections = 0
        if watched:
            self.call_out("93.184.216.34", "cdn.test", after=0)
            self.now += LEARNING_NS + SECOND

    def see(self, exchange: Exchange) -> list[int]:
        """The evidence of a call and of what is known late."""
        record = self.describer.describe(exchange)
        assert isinstance(record, CallRecord)
        found = [one for one in (record, *self.describer.take_late()) if one.contents.payload]
        assert all(one.contents.payload & 0xF == SSRF for one in found)
        return [(one.contents.payload & EVIDENCE_MASK) >> 4 for one in found]

    def call_in(self, target: str, *, body: str = "", cgroup: int = SERVICE, client: str = CLIENT) -> list[int]:
        self.connections += 1
        method = "POST" if body else "GET"
        head = f"{method} {target} HTTP/1.1\r\nHost: shop.test\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(body.encode())}\r\n\r\n"
        return self.see(
            make_exchange(
                time_unix_ns=self.now, connection=self.connections, cgroup_id=cgroup, local_address="10.1.1.1",
                local_port=8080, remote_address=client, remote_port=40_000 + self.connections,
                request_head=head.encode(), response_head=b"HTTP/1.1 200 OK\r\n\r\n",
                request_bytes=len(head) + len(body.encode()), bodies=RawBodies(body.encode(), b"") if body else None,
            )
        )  # fmt: skip

    def call_out(
        self, address: str, host: str, *, port: int = 80, after: float = 0.1, cgroup: int = SERVICE,
        is_local: bool = False, method: str = "GET", field: str = "",
    ) -> list[int]:  # fmt: skip
        """A call of the service, `after` seconds; `is_local`: seen at the end of a server of this node."""
        self.connections += 1
        lines = f"{method} /latest/ HTTP/1.1\r\nHost: {host}\r\n" + (f"{field}\r\n" if field else "")
        head = f"{lines}\r\n".encode()
        ends = ("10.1.1.1", 50_000 + self.connections, address, port)
        local, remote = (ends[2:], ends[:2]) if is_local else (ends[:2], ends[2:])
        return self.see(
            make_exchange(
                time_unix_ns=self.now + int(after * SECOND), connection=self.connections, request_head=head,
                role=Role.SERVER if is_local else Role.CLIENT, cgroup_id=OTHER if is_local else cgroup,
                peer_cgroup_id=cgroup if is_local else 0, local_address=local[0], local_port=local[1],
                remote_address=remote[0], remote_port=remote[1], response_head=b"HTTP/1.1 200 OK\r\n\r\n",
            )
        )  # fmt: skip

    def make_handshake(self, address: str, name: str = "", *, port: int = 443, after: float = 0.1) -> Handshake:
        time_ns = self.now + int(after * SECOND)
        return Handshake(time_ns, SERVICE, "10.1.1.1", 50_000 + self.connections, address, port, name)

    def open_tls(self, address: str, name: str = "", *, port: int = 443, after: float = 0.1) -> list[int]:
        """A TLS connection that the service opens, of which nothing else is read."""
        self.connections += 1
        self.describer.see_handshake(self.make_handshake(address, name, port=port, after=after))
        return [(one.contents.payload & EVIDENCE_MASK) >> 4 for one in self.describer.take_late()]


INSIDE, CLOUD = AttackEvidence.INSIDE_CONTACTED, AttackEvidence.METADATA_CONTACTED


@pytest.mark.parametrize(
    ("host", "address", "name", "port"),
    [
        ("vault.svc", "10.2.2.2", "vault.svc", 443),
        ("vault.svc:8200", "10.2.2.2", "vault.svc", 8_200),
        ("10.2.2.2", "10.2.2.2", "", 443),  # A client names no address in its hello.
        ("[::ffff:a02:202]", "10.2.2.2", "", 443),
        ("0.0.0.0:6443", "127.0.0.1", "", 6_443),
    ],
)
def test_a_tls_connection_to_a_named_host_is_found_though_nothing_of_it_is_read(
    host: str, address: str, name: str, port: int
) -> None:
    tool = f'{{"method": "tools/call", "params": {{"name": "fetch", "arguments": {{"url": "https://{host}/x"}}}}}}'
    node = Node()
    assert node.open_tls(address, name, port=port) == []
    assert node.call_in("/mcp", body=tool) == [INSIDE]
    node = Node()
    assert node.call_in("/mcp", body=tool) == []
    assert node.open_tls(address, name, port=port) == [INSIDE]


def test_tls_connections_to_other_hosts_ports_and_at_other_times_are_not_matched() -> None:
    node = Node()
    assert node.call_in("/fetch?url=https%3A%2F%2Fvault.svc%3A8200%2F") == []
    assert node.open_tls("10.2.2.2", "other.svc", port=8_200) == []
    assert node.open_tls("10.2.2.2", "vault.svc", port=9_999) == []
    assert node.open_tls("10.2.2.2", "vault.svc", port=8_200, after=WAIT_NS / SECOND + 1) == []
    assert node.open_tls("10.2.2.2", "", port=8_200) == []  # Nobody knows which name this address has.


def test_what_a_workload_opens_anyway_is_known_by_its_tls_too() -> None:
    node = Node()
    node.open_tls("10.2.2.2", "vault.svc", after=-60)
    node.open_tls("93.184.216.34", "cdn.test")  # Later: what came before is how the workload works.
    assert node.call_in("/fetch?url=https%3A%2F%2Fvault.svc%2F") == []
    assert node.open_tls("10.2.2.2", "vault.svc", after=1) == []


def test_hosts_are_kept_as_keyed_hashes_alone() -> None:
    node = Node()
    node.call_in("/fetch?url=https%3A%2F%2Fkanarienvogel.svc%2F&to=10.99.98.97")
    node.open_tls("10.2.2.2", "zwetschge.svc")
    (workload,) = node.describer._forgery._workloads.values()  # type: ignore[union-attr]
    hosts = [msgspec.structs.asdict(host) for naming in workload.namings for host in naming.hosts]
    assert len(hosts) == 2 and all(isinstance(value, int) for host in hosts for value in host.values())
    assert [type(contact.name) for contact in workload.contacts] == [int] * len(workload.contacts)


@pytest.mark.parametrize("is_first", [True, False], ids=["answered after the call", "answered before the call"])
@pytest.mark.parametrize("is_local", [True, False], ids=["seen at the server", "seen at the client"])
def test_a_call_to_a_named_host_is_found_in_either_order(*, is_first: bool, is_local: bool) -> None:
    node = Node()
    target = "/preview?url=http%3A%2F%2Fbilling.svc%2Fkeys"
    if is_first:
        assert node.call_out("10.2.2.2", "billing.svc", is_local=is_local) == []
        assert node.call_in(target) == [INSIDE]
    else:
        assert node.call_in(target) == []
        assert node.call_out("10.2.2.2", "billing.svc", is_local=is_local) == [INSIDE]
    assert node.account.confirmed == 1


@pytest.mark.parametrize(
    ("host", "address", "reached"),
    [
        ("169.254.169.254", METADATA, CLOUD),
        ("2852039166", METADATA, CLOUD),
        ("0xa9fea9fe", METADATA, CLOUD),
        ("0xA9.0376.0251.254", METADATA, CLOUD),
        ("169.254.43518", METADATA, CLOUD),
        ("[::ffff:169.254.169.254]", METADATA, CLOUD),
        ("[::ffff:a9fe:a9fe]", METADATA, CLOUD),
        ("[64:ff9b::a9fe:a9fe]", METADATA, CLOUD),
        ("[fd00:ec2::254]", "fd00:ec2::254", CLOUD),
        ("metadata.google.internal", METADATA, CLOUD),
        ("100.100.100.200", "100.100.100.200", CLOUD),
        ("cdn.shop.test@169.254.169.254", METADATA, CLOUD),
        ("169.254.169.254#@cdn.shop.test", METADATA, CLOUD),
        ("%31%36%39.254.169.254", METADATA, CLOUD),
        ("１６９.２５４.１６９.２５４", METADATA, CLOUD),
        ("169。254。169。254", METADATA, CLOUD),
        ("127.1", "127.0.0.1", INSIDE),
        ("0", "127.0.0.1", INSIDE),
        ("0.0.0.0", "127.0.0.1", INSIDE),
        ("017700000001", "127.0.0.1", INSIDE),
        ("localhost", "127.0.0.1", INSIDE),
        ("[::1]", "::1", INSIDE),
        ("10.0.0.7.nip.io", "10.0.0.7", INSIDE),
        ("rebound.attacker.example", "192.168.3.4", INSIDE),
        ("kubernetes.default.svc", "100.64.0.1", INSIDE),
        ("db", "172.20.1.9", INSIDE),
        ("fe80::1".join("[]"), "fe80::1", INSIDE),
    ],
)
@pytest.mark.parametrize("way", ["query", "json", "bare"])
def test_every_form_of_a_host_is_matched(host: str, address: str, reached: AttackEvidence, way: str) -> None:
    node = Node()
    sent = host.rpartition("@")[2] if "#" not in host else host.partition("#")[0]
    node.call_out(address, sent if sent.isascii() and "%" not in sent else address)
    if way == "query":
        assert node.call_in(f"/fetch?to=http%3A%2F%2F{quote(host, safe='%@:[]')}%2Fx") == [reached]
    elif way == "json":
        assert node.call_in("/fetch", body=f'{{"image": {{"src": "http:\\/\\/{host}\\/x"}}}}') == [reached]
    elif (
        host.isascii()
        and host[0].isalnum()
        and "@" not in host
        and "%" not in host
        and (host.count(".") == 3 or host == "localhost")
    ):
        assert node.call_in("/fetch", body=f'{{"host": "{host}"}}') == [reached]


def test_a_redirect_to_the_address_of_credentials_is_found() -> None:
    node = Node()
    node.call_out("93.184.216.34", "short.example", after=0.1)
    node.call_out(METADATA, METADATA, after=0.2)
    assert node.call_in("/preview?url=http://short.example/a") == [CLOUD]


@pytest.mark.parametrize(
    ("method", "field"),
    [
        ("PUT", ""),
        ("GET", "X-aws-ec2-metadata-token: abc"),
        ("GET", "Metadata-Flavor: Google"),
        ("GET", "Metadata: true"),
    ],
)
def test_an_sdk_that_renews_its_credentials_meanwhile_is_not_found(method: str, field: str) -> None:
    node = Node()
    node.call_out("93.184.216.34", "short.example", after=0.1)
    node.call_out(METADATA, METADATA, after=0.2, method=method, field=field)
    assert node.call_in("/preview?url=http://short.example/a") == []


@pytest.mark.parametrize(
    ("target", "address", "host", "port"),
    [
        ("/hook?url=https://partner.example/in", "93.184.216.34", "partner.example", 443),  # What webhooks are for.
        ("/hook?url=https://partner.example/in", "10.2.2.2", "orders.svc", 80),  # Another host.
        ("/login?back=http://localhost:3000/", "127.0.0.1", "localhost:8181", 8181),  # Another port.
        ("/list?page=10.2&sort=name", "10.2.2.2", "orders.svc", 80),
        ("/items/2130706433?id=2130706433", "127.0.0.1", "localhost:9000", 9000),
        ("/send?mail=ada@orders.example", "10.2.2.2", "orders.example", 80),
    ],
)
def test_ordinary_requests_are_not_found(target: str, address: str, host: str, port: int) -> None:
    node = Node()
    assert node.call_in(target) == []
    assert node.call_out(address, host, port=port) == []


def test_what_the_service_calls_anyway_is_not_found() -> None:
    node = Node()
    for _ in range(3):
        node.call_out("10.2.2.2", "auth.svc")
        node.call_out("127.0.0.1", "localhost:8181", port=8181)
        node.now += 30 * SECOND
    assert node.call_in("/login?issuer=http://auth.svc/&sidecar=http://localhost:8181/") == []
    assert node.call_out("10.2.2.2", "auth.svc") + node.call_out("127.0.0.1", "localhost:8181", port=8181) == []
    # The address of credentials is never what a parameter should lead to, whoever asks it else.
    node.call_out(METADATA, METADATA)
    node.now += 60 * SECOND
    assert node.call_in(f"/fetch?url=http://{METADATA}/") == []
    assert node.call_out(METADATA, METADATA) == [CLOUD]


def test_a_service_whose_calls_are_not_known_yet_is_not_accused() -> None:
    node = Node(watched=False)
    node.call_in("/login?issuer=http://auth.svc/")
    assert node.call_out("10.2.2.2", "auth.svc") == []
    node = Node(watched=False)
    assert node.call_in(f"/login?issuer=http://{METADATA}/") == [] and node.call_out(METADATA, METADATA) == [CLOUD]


def test_another_workload_or_another_time_is_no_match() -> None:
    node = Node()
    node.call_in("/preview?url=http://billing.svc/")
    assert node.call_out("10.2.2.2", "billing.svc", cgroup=OTHER) == []
    assert node.call_out("10.2.2.2", "billing.svc", after=WAIT_NS / SECOND + 1) == []
    assert node.call_out("10.2.2.2", "billing.svc", after=-1) == []


def test_the_call_itself_is_no_contact_of_a_service_in_its_own_cgroup() -> None:
    node = Node()
    head = b"GET /a?url=http://127.0.0.1:8080/a HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n"
    inner = make_exchange(
        time_unix_ns=node.now, cgroup_id=SERVICE, peer_cgroup_id=SERVICE, local_address="127.0.0.1", local_port=8080,
        remote_address="127.0.0.1", remote_port=41_000, request_head=head, response_head=b"HTTP/1.1 200 OK\r\n\r\n",
    )  # fmt: skip
    assert node.see(inner) == []


def test_an_inner_host_that_many_callers_name_is_what_the_service_is_for() -> None:
    node, found = Node(), []
    for _ in range(20):
        node.call_out("10.5.5.5", "shop.example", after=0.1)
        found += node.call_in("/preview?url=http://shop.example/a", client=f"203.0.113.{len(found) + 20}")
        node.now += 30 * SECOND
    assert found == [INSIDE] * 3


def test_who_named_another_host_at_the_time_of_a_forgery_is_not_found() -> None:
    node = Node()
    assert node.call_in("/preview?url=http://news.example/", client="203.0.113.77") == []
    assert node.call_out("93.184.216.34", "news.example") == []
    assert node.call_in(f"/preview?url=http://{METADATA}/") == []
    assert node.call_out(METADATA, METADATA, after=0.3) == [CLOUD]
    assert node.call_in("/preview?url=http://news.example/b", client="203.0.113.78") == []


def test_one_request_is_found_once_and_a_late_part_counts_no_call() -> None:
    node = Node()
    node.call_in("/preview?url=http://billing.svc/")
    exchange = node.call_out("10.2.2.2", "billing.svc")
    assert exchange == [INSIDE] and node.call_out("10.2.2.2", "billing.svc", after=0.2) == []
    node.call_in("/preview?url=http://other.svc/")
    record = None
    node.describer.describe(
        make_exchange(
            time_unix_ns=node.now + SECOND, role=Role.CLIENT, cgroup_id=SERVICE, local_address="10.1.1.1",
            local_port=55_555, remote_address="10.2.2.3", remote_port=80,
            request_head=b"GET / HTTP/1.1\r\nHost: other.svc\r\n\r\n",
        )
    )  # fmt: skip
    (record,) = node.describer.take_late()
    assert record.figures.calls == 0 and not record.figures.is_final and record.ends.role is Role.SERVER
    assert "other" not in repr(record) and "preview" not in repr(record.contents)


def test_what_a_connection_shows_leaves_though_no_other_call_comes() -> None:
    node, aggregator = Node(), Aggregator()
    pipeline = Pipeline(
        processor=node.describer,
        aggregator=aggregator,
        converter=BatchConverter(node="test", boot_id="test"),
        clock=Clock(),
        key_id=1,
    )
    node.call_in("/preview?url=https://vault.svc/")
    pipeline.take_handshakes([node.make_handshake("10.2.2.2", "other.svc")])
    assert pipeline.flush() == []
    pipeline.take_handshakes([node.make_handshake("10.2.2.2", "vault.svc")])
    (batch,) = pipeline.flush()
    assert batch


def test_memory_is_bounded() -> None:
    node = Node()
    for n in range(3_000):
        node.call_in(f"/preview?url=http://h{n}.svc/", cgroup=100 + n)
        node.call_out("10.2.2.2", f"x{n}.svc", cgroup=100 + n % 7, port=1_000 + n)
    forgery = node.describer._forgery
    assert forgery is not None and len(forgery._workloads) <= 1_024
    workloads: Iterator = iter(forgery._workloads.values())  # type: ignore[type-arg]
    assert all(len(one.contacts) <= 64 and len(one.namings) <= 64 and len(one.known) <= 1_024 for one in workloads)


@given(st.text(max_size=300))
def test_any_text_is_read_without_an_error(text: str) -> None:
    assert len(list(list_hosts(text))) <= 16
    assert len(list(list_hosts(f"url=http://{text}"))) <= 16
    read_address(text)
