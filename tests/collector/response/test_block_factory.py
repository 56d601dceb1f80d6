"""Where a block holds: one address is somebody else in another cluster, and a credential is not."""

from typing import cast

import pytest

from collector.core.config import BlockSettings
from collector.core.errors import ConflictError
from collector.response.block import BlockError, UnknownClientError, parse_target
from collector.response.block_factory import BlockFactory, BlockRequest
from collector.response.holders import Holders
from collector.response.preview import BlockCheck, Previewer
from collector.storage.records import Reader

POD, PUBLIC, KEY = "10.1.2.3", "8.8.4.4", "credential:00c0ffee00c0ffee"


class Clusters:
    """A previewer that knows where a client called."""

    def __init__(self, known: tuple[str, ...], called: tuple[str, ...]) -> None:
        self.known, self.called = known, called

    def list_clusters(self, now: float) -> tuple[str, ...]:
        return self.known

    def find_clusters(self, target: object, now: float) -> tuple[str, ...]:
        return self.called

    def check(self, target: object, clusters: tuple[str, ...], now: float) -> BlockCheck:
        return BlockCheck(key_id=1, needs_confirmation="")


def make_factory(*known: str, called: tuple[str, ...] = ("east",)) -> BlockFactory:
    previewer = cast(Previewer, Clusters(known, called))
    return BlockFactory(
        previewer=previewer,
        holders=Holders((), cast(Reader, None)),
        clock=lambda: 0.0,
        limits=BlockSettings(),
        requires_second_approval=False,
    )


@pytest.mark.parametrize(
    ("consumer", "known", "home"),
    [
        (POD, ("east", "west"), ("east",)),
        ("10.1.0.0/16", ("east", "west"), ("east",)),
        ("fd00::1", ("east", "-"), ("east",)),
        (POD, ("east",), ()),
        (PUBLIC, ("east", "west"), ()),
        (KEY, ("east", "west"), ()),
    ],
)
def test_home_is_where_a_private_address_called(consumer: str, known: tuple[str, ...], home: tuple[str, ...]) -> None:
    assert make_factory(*known).find_home(parse_target(consumer)) == home


def test_where_it_called_is_not_known_yet() -> None:
    with pytest.raises(UnknownClientError):
        make_factory("east", "west", called=()).find_home(parse_target(POD))


def test_two_clusters_are_two_blocks() -> None:
    factory = make_factory("east", "west")
    east = factory.make(BlockRequest(consumer=POD, clusters=("east",)), ()).begin("ada", 0.0)
    assert (
        east.make_order().holds_in("east")
        and not east.make_order().holds_in("west")
        and not east.make_order().holds_in("")
    )
    factory.make(BlockRequest(consumer=POD, clusters=("west",)), (east,))
    with pytest.raises(ConflictError, match=f"already, by block {east.id}"):
        factory.make(BlockRequest(consumer=POD, clusters=("east",)), (east,))


def test_hosts_outside_of_clusters_are_named_too() -> None:
    order = make_factory("east", "-").make(BlockRequest(consumer=POD, clusters=("-",)), ()).make_order()
    assert order.holds_in("") and not order.holds_in("east")


@pytest.mark.parametrize(
    ("consumer", "reason"),
    [
        ("0.0.0.0/0", "0.0.0.0/0 is wider than /24, the collector's limit"),
        ("::/0", "::/0 is wider than /56"),
        ("10.0.0.0/8", "wider than /24"),
        ("::ffff:0:0/96", "0.0.0.0/0 is wider than /24"),
        ("203.0.113.9", "203.0.113.9/32 is never blocked, by the collector's settings"),
        ("203.0.113.8/29", "never blocked"),
        ("203.0.113.0/24", "holds 203.0.113.8/29, which is never blocked"),
        ("203.0.112.0/24", ""),
        ("2001:db8::/56", ""),
        ("198.51.100.7", ""),
    ],
)
def test_what_no_proxy_may_be_given(consumer: str, reason: str) -> None:
    limits = BlockSettings(never_block_cidrs=("203.0.113.8/29",))
    factory = BlockFactory(
        previewer=cast(Previewer, Clusters(("east",), ("east",))),
        holders=Holders((), cast(Reader, None)),
        clock=lambda: 0.0,
        limits=limits,
        requires_second_approval=False,
    )
    try:
        block = factory.make(BlockRequest(consumer=consumer, is_confirmed=True), [])
    except BlockError as error:
        assert reason and reason in str(error)
    else:
        assert not reason and block.target.value == consumer
