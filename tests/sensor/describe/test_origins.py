"""From heads to what leaves the node: who counts as a caller of a word, by address, workload and credential."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import pytest

from sensor.core.addresses import find_network
from sensor.core.calls import CallRecord, Hop, Role, Service
from sensor.core.keyed import KeyedHash
from sensor.describe.describer import Describer, DescribeSettings
from sensor.routes.shared_use import MIN_SPAN_NS
from sensor.routes.templating import Templater
from sensor.routes.vocabulary import load_vocabulary
from tests.sensor.records import START_NS, make_exchange, make_service
from tests.sensor.routes.test_reveal import PRIVATE_PATHS

PROXY = "10.0.0.1"


@dataclass(slots=True)
class Workloads:
    """Names clients by address."""

    by_address: Mapping[str, str] = field(default_factory=dict)

    def server(self, cgroup_id: int, local_port: int, local_address: str) -> tuple[Service, Hop]:
        return make_service(), Hop.ENDPOINT

    def client_workload(
        self, peer_cgroup_id: int, remote_address: str, remote_port: int, server_cgroup_id: int = 0
    ) -> str:
        return self.by_address.get(remote_address, "")

    def address_workload(self, address: str, first_ns: int, last_ns: int) -> str:
        return self.by_address.get(address, "")


def is_readable(
    path: str,
    callers: Iterable[tuple[str, str]],
    *,
    workloads: Mapping[str, str] | None = None,
    trusted_networks: tuple[str, ...] = (),
    forwarded: Mapping[str, str] | None = None,
) -> bool:
    """Whether the last word of a path leaves the node, after calls of each (address, bearer token) on two days."""
    keyed_hash = KeyedHash(1, b"0123456789abcdef")
    templater = Templater(load_vocabulary(), keyed_hash)
    settings = DescribeSettings(trusted_networks=trusted_networks)
    describer = Describer(templater, Workloads(workloads or {}), keyed_hash, settings)
    text = ""
    for time_ns in (START_NS, START_NS + 24 * MIN_SPAN_NS):
        for address, token in callers:
            lines = [f"GET {path} HTTP/1.1", "Host: shop.test"]
            lines += [f"Authorization: Bearer {token}"] if token else []
            lines += [f"X-Forwarded-For: {forwarded[address]}"] if forwarded else []
            exchange = make_exchange(
                request_head="\r\n".join((*lines, "", "")).encode(), time_unix_ns=time_ns, role=Role.SERVER,
                remote_address=PROXY if forwarded else address, status_code=200, is_request_head_truncated=False,
                peer_cgroup_id=0, is_lossy=False,
            )  # fmt: skip
            record = describer.describe(exchange)
            assert isinstance(record, CallRecord)
            segment = record.target.route.segments[-1]
            text = segment.text or templater.apply_reveal([segment.hash]).get(segment.hash, "")
    return bool(text)


def make_token(number: int) -> str:
    return f"tok{number}8fj2Kd92ka7LqPzW"


@pytest.mark.parametrize("path", PRIVATE_PATHS)
def test_five_tokens_at_one_address_reveal_nothing(path: str) -> None:
    assert not is_readable(path, [("198.51.100.7", make_token(number)) for number in range(5)])


def test_three_callers_of_their_own_reveal_a_word() -> None:
    callers = [(f"198.51.100.{number}", make_token(number)) for number in range(3)]
    assert is_readable("/zorblatt", callers)
    assert is_readable("/zorblatt", [(address, "") for address, _ in callers])
    assert not is_readable("/zorblatt", [(address, make_token(1)) for address, _ in callers])
    assert not is_readable("/zorblatt", callers[:2])


def test_addresses_of_one_ipv6_subnet_are_one_caller() -> None:
    assert not is_readable("/zorblatt", [(f"2001:db8:0:1::{n}", make_token(n)) for n in range(1, 9)])
    assert is_readable("/zorblatt", [(f"2001:db8:0:{n}::1", make_token(n)) for n in range(1, 4)])
    assert find_network("2001:db8:0:1:2:3:4:5") == find_network("2001:db8:0:1::") == "2001:db8:0:1::/64"
    assert [find_network(text) for text in ("198.51.100.7", "", "fe80::1%eth0", "a:b")] == [
        "198.51.100.7", "", "fe80::/64", "a:b",
    ]  # fmt: skip


def test_replicas_of_one_workload_are_one_caller() -> None:
    addresses = [f"10.1.0.{number}" for number in range(5)]
    callers = [(address, make_token(number)) for number, address in enumerate(addresses)]
    assert not is_readable("/zorblatt", callers, workloads=dict.fromkeys(addresses, "shop/gateway"))
    assert is_readable("/zorblatt", callers, workloads={one: f"shop/{one}" for one in addresses})


def test_a_forwarding_header_counts_only_from_a_proxy_that_is_trusted() -> None:
    clients = {f"c{number}": f"203.0.113.{number}" for number in range(5)}
    callers = [(client, make_token(number)) for number, client in enumerate(clients)]
    gateway = {PROXY: "edge/gateway"}
    assert not is_readable("/zorblatt", callers, workloads=gateway, forwarded=clients)
    trusted = ("10.0.0.0/8",)
    assert is_readable("/zorblatt", callers, workloads=gateway, forwarded=clients, trusted_networks=trusted)
