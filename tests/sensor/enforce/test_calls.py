"""What an enforcer does when it sees calls of who is blocked."""

from dataclasses import replace

import pytest

from common.keyed_hash import hash_siphash
from sensor.ebpf.abi import EnforcementMark
from sensor.enforce.block import BlockKind, Scope
from sensor.enforce.reset import UNKNOWN_COOKIE
from tests.sensor.enforce.node import Node, call, credential


def test_a_principal_is_followed_to_a_new_token() -> None:
    node = Node()
    node.take(replace(credential(50), kind=BlockKind.PRINCIPAL, credentials=(51,)))
    node.enforcer.see(*call(credential=52, principal=50), is_shared=False)
    keys = {int.from_bytes(key, "little") for key in node.blocked("blocked_credentials")}
    assert keys == {50, 51, 52}
    assert [connection.remote_port for _, connection in node.watch.asked] == [9]
    node.pass_seconds(1)
    assert len(node.blocked("blocked_credentials")) == 3


@pytest.mark.parametrize(("remote", "is_shared"), [("10.0.0.9", False), ("203.0.113.7", True)])
def test_connections_of_others_are_spared_and_counted(remote: str, is_shared: bool) -> None:
    node = Node()
    node.take(credential(9))
    node.enforcer.see(*call(credential=9, remote=remote), is_shared=is_shared)
    assert not node.watch.asked
    assert node.enforcer.report().blocks[0].spared_requests == 1


def test_a_shared_connection_is_cut_once_it_was_confirmed() -> None:
    node = Node()
    node.take(credential(9, is_confirmed=True))
    node.enforcer.see(*call(credential=9), is_shared=True)
    assert len(node.watch.asked) == 1 and not node.enforcer.report().blocks[0].spared_requests


def test_the_kernel_stops_the_first_call_of_a_client_that_shares_no_connection() -> None:
    node = Node()
    node.take(credential(9))
    assert node.kernel.state[2] == EnforcementMark.CREDENTIALS
    node.enforcer.see(*call(credential=9), coded=b"coded")
    keys = {int.from_bytes(key, "little") for key in node.blocked("blocked_credentials")}
    assert keys == {9, hash_siphash(b"k" * 16, b"coded")}
    assert node.kernel.state[2] == EnforcementMark.CREDENTIALS | EnforcementMark.STREAMED
    node.pass_seconds(1)
    assert node.kernel.state[2] & EnforcementMark.STREAMED
    node.enforcer.see(*call(credential=9), is_shared=True, coded=b"coded")
    assert node.kernel.state[2] == EnforcementMark.CREDENTIALS
    node.enforcer.see(*call(credential=9), coded=b"coded")  # It has shared one before.
    assert node.kernel.state[2] == EnforcementMark.CREDENTIALS


def test_a_call_that_goes_on_is_spared_uncounted() -> None:
    node = Node()
    node.take(credential(9))
    node.enforcer.see(*call(credential=9), is_shared=True, is_over=False)
    assert not node.watch.asked and not node.enforcer.report().blocks[0].spared_requests


def test_a_session_of_tls_is_found_by_its_ends() -> None:
    node = Node()
    node.take(credential(9))
    node.enforcer.see(*call(credential=9, is_encrypted=True))
    assert [connection.cookie for _, connection in node.watch.asked] == [UNKNOWN_COOKIE]


@pytest.mark.parametrize(("port", "asked"), [(8080, 1), (81, 0)])
def test_a_block_for_one_service_leaves_the_others(port: int, asked: int) -> None:
    node = Node()
    node.take(credential(9, scopes=(Scope(namespace="shop", workload="cart"),)))
    node.enforcer.see(*call(credential=9, port=port))
    assert len(node.watch.asked) == asked
    assert node.enforcer.is_blocked(*call(credential=9, port=port)) is bool(asked)
