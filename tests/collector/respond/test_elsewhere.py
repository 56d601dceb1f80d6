"""Who else is told of blocks: a real HAProxy that refuses the blocked and nobody else, and files that change only when
blocks do."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.ingest.blocks import BlockKind, BlockOrder
from collector.respond.elsewhere import Elsewhere, ExportDirectory, Haproxy
from collector.respond.haproxy import HaproxyError, HaproxyList, parse_socket
from tests.e2e.daemon import Daemon, find_program

CONFIGURATION = """
global
    stats socket {runtime} mode 600 level admin
defaults
    mode http
    timeout client 5s
    timeout connect 5s
    timeout server 5s
frontend front
    bind {address}:{port}
    acl apidae_blocked src -f {deny}
    tcp-request connection reject if apidae_blocked
    http-request return status 200
"""
THIEF, HONEST = "127.0.5.7", "127.0.5.8"


def order(value: str) -> BlockOrder:
    return BlockOrder(id=value, kind=BlockKind.ADDRESS, value=value, key_id=0, credentials=(), scopes=(), expires_at=0)


class Proxy:
    """HAProxy with a list of ours, empty at first."""

    def __init__(self, directory: Path) -> None:
        program = find_program("haproxy")
        if program is None:
            pytest.skip("haproxy is not installed")
        self.runtime, self.deny = str(directory / "admin.sock"), str(directory / "blocks.acl")
        Path(self.deny).write_text("# Apidae\n")
        path = directory / "haproxy.cfg"
        self._daemon = Daemon(
            [program, "-db", "-f", str(path)],
            path,
            CONFIGURATION,
            address="127.0.0.1",
            runtime=self.runtime,
            deny=self.deny,
        )

    def call(self, source: str) -> str:
        """The status, or `refused`."""
        try:
            with socket.create_connection(
                ("127.0.0.1", self._daemon.port), 10, source_address=(source, 0)
            ) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                return connection.recv(100)[9:12].decode() or "refused"
        except ConnectionError:
            return "refused"

    def stop(self) -> None:
        self._daemon.stop()


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    running = Proxy(tmp_path)
    yield running
    running.stop()


def test_haproxy_refuses_who_is_blocked_and_nobody_else(proxy: Proxy) -> None:
    orders = [order("203.0.113.0/24")]
    elsewhere = Elsewhere([Haproxy(proxy.runtime, proxy.deny)], lambda: orders)
    elsewhere.tell()
    assert (proxy.call(THIEF), proxy.call(HONEST)) == ("200", "200")
    orders.append(order(THIEF))
    orders.append(order("2001:db8::/64"))
    elsewhere.tell()
    elsewhere.tell()  # What it holds is not added again.
    assert (proxy.call(THIEF), proxy.call(HONEST)) == ("refused", "200")
    orders.clear()
    elsewhere.tell()
    assert (proxy.call(THIEF), proxy.call(HONEST)) == ("200", "200")
    assert elsewhere.failed_count == 0


def test_thousands_of_networks_come_and_go(proxy: Proxy) -> None:
    networks = sorted(f"10.{n >> 8}.{n & 255}.0/24" for n in range(2_000))
    held = HaproxyList(proxy.runtime, proxy.deny)
    held.put(networks)
    assert sorted(held._read()) == networks
    held.put(networks[:3])
    assert sorted(held._read()) == networks[:3]


def test_a_list_that_is_none_and_a_proxy_that_is_gone_are_told(proxy: Proxy, tmp_path: Path) -> None:
    with pytest.raises(HaproxyError, match="has no list /nowhere"):
        HaproxyList(proxy.runtime, "/nowhere").put(["203.0.113.7/32"])
    gone = Elsewhere([Haproxy(str(tmp_path / "no.sock"), proxy.deny)], lambda: [order(THIEF)])
    gone.tell()
    assert gone.failed_count == 1  # And the thread goes on.


@pytest.mark.parametrize("text", ["", "relative.sock", "host", "host:0", "host:99999", ":80"])
def test_an_address_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="stats socket"):
        parse_socket(text)


def test_files_change_with_the_blocks(tmp_path: Path) -> None:
    place = ExportDirectory(tmp_path)
    place.tell([order(THIEF)])
    traefik, deny = tmp_path / "traefik" / "blocks.yaml", tmp_path / "haproxy" / "blocks.acl"
    assert THIEF in traefik.read_text() and THIEF in deny.read_text()
    assert {path.name for path in tmp_path.iterdir()} == {
        *("haproxy", "traefik", "envoy-gateway", "cilium", "networkpolicy")
    }
    before = traefik.stat().st_ino
    place.tell([order(THIEF)])
    assert traefik.stat().st_ino == before
    traefik.unlink()
    place.tell([order(THIEF)])
    assert THIEF in traefik.read_text()
    place.tell([])
    assert THIEF not in traefik.read_text() and THIEF not in deny.read_text()
