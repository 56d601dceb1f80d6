"""The hellos of real clients and servers, whole and cut anywhere."""

import ssl
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor.http.tls_hello import (
    ClientHello,
    list_weaknesses,
    name_cipher_suite,
    name_version,
    parse_client_hello,
    parse_server_hello,
)


def make_client_hello(context: ssl.SSLContext, server_name: str | None) -> bytes:
    """What OpenSSL sends first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=server_name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def make_context(*, protocols: tuple[str, ...] = ("h2", "http/1.1")) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate and its key in one file."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=h"]
    subprocess.run([*command, "-keyout", str(path), "-out", f"{path}.crt"], check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + Path(f"{path}.crt").read_bytes())
    return path


def answer(hello: bytes, certificate: Path, version: ssl.TLSVersion) -> bytes:
    """What OpenSSL sends as a server to a hello."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.maximum_version = version
    context.set_alpn_protocols(["http/1.1"])
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    incoming.write(hello)
    server = context.wrap_bio(incoming, outgoing, server_side=True)
    with pytest.raises(ssl.SSLWantReadError):
        server.do_handshake()
    return outgoing.read()


def test_client_says_who_is_called_and_what_it_speaks() -> None:
    hello = parse_client_hello(make_client_hello(make_context(), "API.example.com"))
    assert hello == ClientHello(
        server_name="api.example.com",
        protocols=("h2", "http/1.1"),
        versions=(0x0304, 0x0303),
        is_encrypted_hello=False,
    )


def test_client_without_name_and_protocols() -> None:
    hello = parse_client_hello(make_client_hello(make_context(protocols=()), None))
    assert hello is not None
    assert (hello.server_name, hello.protocols) == ("", ())


def test_old_client_offers_by_its_version_field() -> None:
    context = make_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    hello = parse_client_hello(make_client_hello(context, "h"))
    assert hello is not None
    assert hello.versions == (0x0303,)


@pytest.mark.parametrize(
    ("version", "name", "protocol"),
    [(ssl.TLSVersion.TLSv1_3, "TLS 1.3", ""), (ssl.TLSVersion.TLSv1_2, "TLS 1.2", "http/1.1")],
)
def test_server_says_what_it_chose(certificate: Path, version: ssl.TLSVersion, name: str, protocol: str) -> None:
    hello = parse_server_hello(answer(make_client_hello(make_context(), "h"), certificate, version))
    assert hello is not None
    assert (name_version(hello.version), hello.protocol) == (name, protocol)
    assert name_cipher_suite(hello.cipher_suite).startswith("TLS_")
    assert list_weaknesses(hello.version, hello.cipher_suite) == ()


def test_hello_in_several_records_is_read() -> None:
    whole = make_client_hello(make_context(), "h.example")
    body = whole[5:]
    split = b"".join(
        struct.pack("!BHH", 0x16, 0x0301, len(part)) + part for part in (body[:60], body[60:61], body[61:])
    )
    assert parse_client_hello(split) == parse_client_hello(whole)


def test_cut_hello_says_what_is_whole() -> None:
    """Never raises, and never says what the whole hello does not."""
    whole = make_client_hello(make_context(), "h.example")
    expected = parse_client_hello(whole)
    assert expected is not None
    for size in range(len(whole)):
        hello = parse_client_hello(whole[:size])
        if hello is not None:
            assert hello.server_name in ("", expected.server_name)
            assert hello.protocols in ((), expected.protocols)
            assert hello.versions in (expected.versions, (0x0303,))


@given(st.binary(max_size=300), st.integers(0, 3))
def test_bytes_of_any_kind_are_read_or_refused(data: bytes, kind: int) -> None:
    framed = struct.pack("!BHHB3s", 0x16, 0x0301, len(data) + 4, kind, len(data).to_bytes(3)) + data
    for message in (data, framed):
        parse_client_hello(message)
        parse_server_hello(message)


def test_names_that_are_no_host_names_are_left_out() -> None:
    whole = make_client_hello(make_context(), "h.example")
    hello = parse_client_hello(whole.replace(b"h.example", b"h\nexample"))
    assert hello is not None
    assert hello.server_name == ""


def test_of_two_extensions_of_a_type_the_first_holds() -> None:
    names = b"".join(
        struct.pack("!HHHBH", 0, len(name) + 5, len(name) + 3, 0, len(name)) + name for name in (b"one.example", b"two")
    )
    body = struct.pack("!H32xBHHBBH", 0x0303, 0, 2, 0x1301, 1, 0, len(names)) + names
    message = b"\x01" + len(body).to_bytes(3) + body
    hello = parse_client_hello(struct.pack("!BHH", 0x16, 0x0301, len(message)) + message)
    assert hello is not None
    assert hello.server_name == "one.example"


def test_weaknesses_are_named() -> None:
    assert list_weaknesses(0x0301, 0x000A) == (
        "TLS 1.0 is deprecated (RFC 8996)",
        "3DES has short blocks (RFC 9325 4.1)",
        "RSA key exchange has no forward secrecy (RFC 9325 4.1)",
        "CBC suites are discouraged (RFC 9325 4.2)",
    )
    assert list_weaknesses(0x0303, 0x1234) == ()
    assert name_cipher_suite(0x1234) == "0x1234"
