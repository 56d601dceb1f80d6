"""What is kept of handshakes: bounded, most first."""

import struct

from sensor.coverage.handshakes import (
    ENDS_MAX,
    OTHERS,
    SECOND_NS,
    SHOWN_MAX,
    TEXTS_MAX,
    WEAK_MAX,
    End,
    HandshakeTable,
    add_handshakes,
)
from sensor.coverage.row import NO_HANDSHAKES, CoverageRole, Handshakes, WeakChoice
from tests.sensor.http.test_tls_hello import make_client_hello, make_context

END: End = (1, CoverageRole.LISTENING, 443, "")
AES_CBC = "TLS_RSA_WITH_AES_128_CBC_SHA"


def make_server_hello(version: int, suite: int) -> bytes:
    """Without extensions."""
    body = struct.pack("!H", version) + bytes(32) + b"\0" + struct.pack("!HB", suite, 0)
    message = b"\x02" + len(body).to_bytes(3) + body
    return b"\x16\x03\x01" + len(message).to_bytes(2) + message


def test_names_protocols_and_peers_are_counted() -> None:
    table = HandshakeTable()
    for name in ("a.example", "b.example", "b.example"):
        table.take_client(END, "192.0.2.1", make_client_hello(make_context(), name))
    heard = table.find(END, 0)
    assert heard.server_names == (("b.example", 2), ("a.example", 1))
    assert heard.protocols == (("h2", 3), ("http/1.1", 3))
    assert heard.peers == (("192.0.2.1", 3),)
    assert table.find((2, CoverageRole.LISTENING, 443, ""), 0) == NO_HANDSHAKES


def test_a_client_cannot_fill_the_table() -> None:
    table = HandshakeTable()
    for number in range(3 * TEXTS_MAX):
        table.take_client(END, "", make_client_hello(make_context(), f"h{number}.example"))
    heard = table.find(END, 0)
    assert heard.count == 3 * TEXTS_MAX
    assert heard.server_names[0] == (OTHERS, 2 * TEXTS_MAX)
    assert len(heard.server_names) == SHOWN_MAX
    for port in range(ENDS_MAX + 5):
        table.take_client((2, CoverageRole.LISTENING, port, ""), "", b"")
    assert table.refused == 6


def test_what_is_no_hello_is_counted() -> None:
    table = HandshakeTable()
    table.take_client(END, "", b"\x16\x03\x01")
    table.take_server(END, b"", 0)
    assert table.unreadable == 2
    assert table.find(END, 0).count == 1


def test_what_is_weak_says_when_it_was_chosen_last() -> None:
    table = HandshakeTable()
    for version, suite, seconds in ((0x0301, 0x002F, 1), (0x0303, 0xC02F, 2), (0x0303, 0x000A, 3), (0x0301, 0x002F, 5)):
        table.take_server(END, make_server_hello(version, suite), seconds * SECOND_NS)
    old, triple = table.find(END, 10 * SECOND_NS).weak_choices
    assert (old.version, old.cipher_suite, old.count, old.age_seconds) == ("TLS 1.0", AES_CBC, 2, 5)
    assert (triple.version, triple.count, triple.age_seconds) == ("TLS 1.2", 1, 7)
    for suite in range(2 * WEAK_MAX):
        table.take_server(END, make_server_hello(0x0300, suite), 11 * SECOND_NS)
    assert len(table.find(END, 0).weak_choices) == WEAK_MAX


def test_weak_choices_of_two_ends_add_up() -> None:
    def heard(count: int, age: int) -> Handshakes:
        choice = WeakChoice(version="TLS 1.0", cipher_suite=AES_CBC, count=count, age_seconds=age)
        return Handshakes(count=count, weak_choices=(choice,))

    (choice,) = add_handshakes(heard(1, 7), heard(2, 3)).weak_choices
    assert (choice.count, choice.age_seconds) == (3, 3)


def test_two_ends_add_up() -> None:
    one = Handshakes(count=1, versions=(("TLS 1.2", 1),))
    other = Handshakes(count=2, versions=(("TLS 1.3", 2),))
    assert add_handshakes(one, other) == Handshakes(count=3, versions=(("TLS 1.3", 2), ("TLS 1.2", 1)))
    assert add_handshakes(one, NO_HANDSHAKES) is one
