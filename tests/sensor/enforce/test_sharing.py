"""Whose connections are shared: those that carry several clients, and all others of the same peer."""

from sensor.enforce import history as sharing
from sensor.enforce.history import SharedConnections


def test_one_client_shares_with_nobody() -> None:
    shared = SharedConnections()
    for client in (7, 0, 7):  # What names nobody shares nothing.
        shared.note(1, "192.0.2.1", client)
    assert not shared.is_shared(1, "192.0.2.1")
    assert not shared.is_shared(2, "192.0.2.1")


def test_two_clients_share_and_so_do_the_peers_other_connections() -> None:
    shared = SharedConnections()
    shared.note(1, "192.0.2.1", 7)
    shared.note(1, "192.0.2.1", 8)
    assert shared.is_shared(1, "192.0.2.1")
    assert shared.is_shared(2, "192.0.2.1")
    assert not shared.is_shared(3, "192.0.2.9")


def test_a_number_of_connections_is_kept() -> None:
    shared = SharedConnections()
    for number in range(sharing.CONNECTIONS_LIMIT + 10):
        shared.note(number, f"192.0.2.{number}", 7)
        shared.note(number, f"192.0.2.{number}", 8)
    assert len(shared._clients) == sharing.CONNECTIONS_LIMIT
    assert len(shared._peers) == sharing.PEERS_LIMIT
