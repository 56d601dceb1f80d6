"""Who else is told of blocks: a real HAProxy that refuses the blocked and nobody else, and files that change only when
blocks do."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.receiver.policy import BlockKind, BlockOrder
from collector.response.deny_lists import ExportSettings, HaproxyError, HaproxyList, parse_socket
from collector.response.integrations import BlockExporter, ExportDirectory
from tests.collector.response.proxies import GREETING, EnvoyFront, HaproxyFront, TraefikFront, call
from tests.waiting import wait_until

THIEF, HONEST = "127.0.5.7", "127.0.5.8"
SETTINGS = ExportSettings(traefik_entry_points=("web", "websecure"))


def order(value: str) -> BlockOrder:
    return BlockOrder(id=value, kind=BlockKind.ADDRESS, value=value, key_id=0, credentials=(), scopes=(), expires_at=0)


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[HaproxyFront]:
    running = HaproxyFront(tmp_path)
    wait_until(lambda: Path(running.runtime).exists(), "HAProxy's socket")  # Its ports may be open before.
    yield running
    running.stop()


def _look(port: int, *, is_tls: bool = False) -> tuple[str, str]:
    """What the thief and somebody honest get."""
    return call(port, THIEF, is_tls=is_tls), call(port, HONEST, is_tls=is_tls)


def test_haproxy_refuses_who_is_blocked_and_nobody_else(proxy: HaproxyFront) -> None:
    orders = [order("203.0.113.0/24")]
    exporter = BlockExporter([HaproxyList(proxy.runtime, proxy.deny)], lambda: orders)
    exporter.write()
    assert _look(proxy.ports["http"]) == ("200", "200")
    orders.append(order(THIEF))
    orders.append(order("2001:db8::/64"))
    exporter.write()
    exporter.write()  # What it holds is not added again.
    assert _look(proxy.ports["http"]) == ("refused", "200")
    orders.clear()
    exporter.write()
    assert _look(proxy.ports["http"]) == ("200", "200")
    assert exporter.failed_count == 0


def test_traefik_refuses_who_is_blocked_in_the_clear_and_behind_tls(tmp_path: Path) -> None:
    directory, front = ExportDirectory(tmp_path, SETTINGS), TraefikFront(tmp_path)
    clear, tls = front.ports["http"], front.ports["https"]

    def look() -> tuple[tuple[str, str], tuple[str, str], bytes]:
        return _look(clear), _look(tls, is_tls=True), front.serve_mail()

    try:
        served = (("200", "200"), ("200", "200"), GREETING)
        wait_until(lambda: look() == served, "Traefik has the app")
        directory.write([order("203.0.113.0/24"), order("2001:db8::/64"), order(THIEF)])
        refused = (("403", "200"), ("403", "200"), GREETING)
        wait_until(lambda: look() == refused, "the thief is refused, and nobody else")
        directory.write([order("203.0.113.0/24")])
        wait_until(lambda: look() == served, "the thief is served again")
        directory.write([order(THIEF)])
        wait_until(lambda: look() == refused, "the thief is refused again")
        directory.write([])
        wait_until(lambda: look() == served, "nobody is refused")
    finally:
        front.stop()


def test_envoy_refuses_who_is_blocked_and_nobody_else(tmp_path: Path) -> None:
    directory = ExportDirectory(tmp_path, SETTINGS)
    directory.write([])  # As at the collector's start: Envoy begins with no file that is missing.
    front = EnvoyFront(tmp_path)
    port = front.ports["http"]
    try:
        for orders, told in (
            ([order("203.0.113.0/24"), order("2001:db8::/64"), order(THIEF)], ("403", "200")),
            ([order("203.0.113.0/24")], ("200", "200")),
            ([order(f"{THIEF}/32"), order(HONEST)], ("403", "403")),
            ([], ("200", "200")),
        ):
            directory.write(orders)
            wait_until(lambda told=told: _look(port) == told, f"Envoy answers {told}")  # type: ignore[misc]
    finally:
        front.stop()


def test_thousands_of_networks_come_and_go(proxy: HaproxyFront) -> None:
    networks = sorted(f"10.{n >> 8}.{n & 255}.0/24" for n in range(2_000))
    held = HaproxyList(proxy.runtime, proxy.deny)
    held.write(list(map(order, networks)))
    assert sorted(held._read()) == networks
    held.write(list(map(order, networks[:3])))
    assert sorted(held._read()) == networks[:3]


def test_a_list_that_is_none_and_a_proxy_that_is_gone_are_told(proxy: HaproxyFront, tmp_path: Path) -> None:
    with pytest.raises(HaproxyError, match="has no list /nowhere"):
        HaproxyList(proxy.runtime, "/nowhere").write([order("203.0.113.7/32")])
    gone = BlockExporter([HaproxyList(str(tmp_path / "no.sock"), proxy.deny)], lambda: [order(THIEF)])
    gone.write()
    assert gone.failed_count == 1  # And the thread goes on.


@pytest.mark.parametrize("text", ["", "relative.sock", "host", "host:0", "host:99999", ":80"])
def test_an_address_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="stats socket"):
        parse_socket(text)


def test_files_change_with_the_blocks(tmp_path: Path) -> None:
    directory = ExportDirectory(tmp_path, SETTINGS)
    directory.write([order(THIEF)])
    traefik, deny = tmp_path / "traefik" / "blocks.yaml", tmp_path / "haproxy" / "blocks.acl"
    assert THIEF in traefik.read_text() and THIEF in deny.read_text()
    assert {path.name for path in tmp_path.iterdir()} == {
        *("haproxy", "traefik", "envoy", "envoy-gateway", "cilium", "networkpolicy")
    }
    before = traefik.stat().st_ino
    directory.write([order(THIEF)])
    assert traefik.stat().st_ino == before
    traefik.unlink()
    directory.write([order(THIEF)])
    assert THIEF in traefik.read_text()
    directory.write([])
    assert THIEF not in traefik.read_text() and THIEF not in deny.read_text()
