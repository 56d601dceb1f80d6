"""What is kept of handshakes: bounded, most first."""

from sensor.coverage.handshakes import ENDS_MAX, OTHERS, SHOWN_MAX, TEXTS_MAX, End, HandshakeTable, add_handshakes
from sensor.coverage.row import NO_HANDSHAKES, CoverageRole, Handshakes
from tests.sensor.protocols.test_tls import make_client_hello, make_context

END: End = (1, CoverageRole.LISTENING, 443, "")


def test_names_protocols_and_peers_are_counted() -> None:
    table = HandshakeTable()
    for name in ("a.example", "b.example", "b.example"):
        table.take_client(END, "192.0.2.1", make_client_hello(make_context(), name))
    heard = table.find(END)
    assert heard.server_names == (("b.example", 2), ("a.example", 1))
    assert heard.protocols == (("h2", 3), ("http/1.1", 3))
    assert heard.peers == (("192.0.2.1", 3),)
    assert table.find((2, CoverageRole.LISTENING, 443, "")) == NO_HANDSHAKES


def test_a_client_cannot_fill_the_table() -> None:
    table = HandshakeTable()
    for number in range(3 * TEXTS_MAX):
        table.take_client(END, "", make_client_hello(make_context(), f"h{number}.example"))
    heard = table.find(END)
    assert heard.count == 3 * TEXTS_MAX
    assert heard.server_names[0] == (OTHERS, 2 * TEXTS_MAX)
    assert len(heard.server_names) == SHOWN_MAX
    for port in range(ENDS_MAX + 5):
        table.take_client((2, CoverageRole.LISTENING, port, ""), "", b"")
    assert table.refused == 6


def test_what_is_no_hello_is_counted() -> None:
    table = HandshakeTable()
    table.take_client(END, "", b"\x16\x03\x01")
    table.take_server(END, b"")
    assert table.unreadable == 2
    assert table.find(END).count == 1


def test_two_ends_add_up() -> None:
    one = Handshakes(count=1, versions=(("TLS 1.2", 1),))
    other = Handshakes(count=2, versions=(("TLS 1.3", 2),))
    assert add_handshakes(one, other) == Handshakes(count=3, versions=(("TLS 1.3", 2), ("TLS 1.2", 1)))
    assert add_handshakes(one, NO_HANDSHAKES) is one
