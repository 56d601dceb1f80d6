"""Reads the first message of each end of a TLS connection, which is in clear text: server name, ALPN, versions, cipher.

Takes the first bytes of a direction, cut anywhere. Gives a `ClientHello` or `ServerHello` with what is whole in them,
or None for other bytes. `list_weaknesses` names what is weak about a version and a cipher suite. Bounded, never raises.

Sources: RFC 8446 4.1 and 5.1, RFC 6066 3 (server name), RFC 7301 (ALPN), RFC 8446 4.2.1 (versions). Names of cipher
suites are those of the IANA registry.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

HANDSHAKE_RECORD: Final = 0x16
_CLIENT_HELLO, _SERVER_HELLO = 1, 2
_RECORD_BYTES: Final = 5
NAME_CHARACTERS_MAX: Final = 253  # A host name (RFC 1035 2.3.4).
PROTOCOL_CHARACTERS_MAX: Final = 32  # The registry's longest has 22.
PROTOCOLS_MAX: Final = 8
VERSIONS_MAX: Final = 8
EXTENSIONS_MAX: Final = 64

_HOST_NAME: Final = re.compile(rb"[A-Za-z0-9_.*-]{1,%d}" % NAME_CHARACTERS_MAX)
_PROTOCOL: Final = re.compile(rb"[\x21-\x7e]{1,%d}" % PROTOCOL_CHARACTERS_MAX)


class Extension(IntEnum):
    """Types that are read (IANA, TLS ExtensionType Values)."""

    SERVER_NAME = 0
    PROTOCOLS = 16
    VERSIONS = 43
    ENCRYPTED_HELLO = 0xFE0D


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientHello:
    """What the client says in the clear."""

    server_name: str  # As asked for; empty where it is not, or is not a host name.
    protocols: tuple[str, ...]  # ALPN in the client's order.
    versions: tuple[int, ...]  # Offered, in the client's order: 0x0304 is TLS 1.3.
    is_encrypted_hello: bool  # ECH: the name is the outer one, not that of the service.


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerHello:
    """What the server chose. In TLS 1.3 the protocol is encrypted: empty here."""

    version: int
    cipher_suite: int
    protocol: str


def parse_client_hello(data: bytes) -> ClientHello | None:
    """The client's hello in the first bytes of its direction."""
    body = _read_handshake(data, _CLIENT_HELLO)
    if body is None or len(body) < 34:
        return None
    version = _number(body, 0, 2)
    offset = 34
    for size in (1, 2, 1):  # Session id, cipher suites, compression methods: each behind its length.
        if offset + size > len(body):
            return None
        offset += size + _number(body, offset, size)
    found = _read_extensions(body, offset)
    versions = _read_versions(found.get(Extension.VERSIONS, b"")) or (version,)
    return ClientHello(
        server_name=_read_server_name(found.get(Extension.SERVER_NAME, b"")),
        protocols=_read_protocols(found.get(Extension.PROTOCOLS, b"")),
        versions=versions,
        is_encrypted_hello=Extension.ENCRYPTED_HELLO in found,
    )


def parse_server_hello(data: bytes) -> ServerHello | None:
    """The server's hello in the first bytes of its direction."""
    body = _read_handshake(data, _SERVER_HELLO)
    if body is None or len(body) < 35:
        return None
    offset = 35 + body[34]
    if offset + 3 > len(body):
        return None
    found = _read_extensions(body, offset + 3)
    chosen = found.get(Extension.VERSIONS, b"")
    protocols = _read_protocols(found.get(Extension.PROTOCOLS, b""))
    return ServerHello(
        version=_number(chosen, 0, 2) if len(chosen) == 2 else _number(body, 0, 2),
        cipher_suite=_number(body, offset, 2),
        protocol=protocols[0] if protocols else "",
    )


def _read_handshake(data: bytes, kind: int) -> bytes | None:
    """The body of a handshake message, as far as it is there; it may lie in several records."""
    parts = []
    offset = 0
    while offset + _RECORD_BYTES <= len(data) and data[offset] == HANDSHAKE_RECORD and data[offset + 1] == 3:
        start = offset + _RECORD_BYTES
        offset = start + _number(data, offset + 3, 2)
        parts.append(data[start:offset])
        if offset == start:
            break
    message = b"".join(parts)
    if len(message) < 4 or message[0] != kind:
        return None
    return message[4 : 4 + _number(message, 1, 3)]


def _read_extensions(body: bytes, offset: int) -> dict[int, bytes]:
    """By type; of two of one type, which none may send, the first: a cut message says nothing else than the whole."""
    found: dict[int, bytes] = {}
    for kind, data in _extensions(body, offset):
        found.setdefault(kind, data)
    return found


def _extensions(body: bytes, offset: int) -> Iterator[tuple[int, bytes]]:
    """(type, data) of the extensions behind their total length; the one that is cut is left out."""
    if offset + 2 > len(body):
        return
    end = min(offset + 2 + _number(body, offset, 2), len(body))
    offset += 2
    for _ in range(EXTENSIONS_MAX):
        if offset + 4 > end:
            return
        start = offset + 4
        after = start + _number(body, offset + 2, 2)
        if after > end:
            return
        yield _number(body, offset, 2), body[start:after]
        offset = after


def _read_server_name(data: bytes) -> str:
    """The first host name of the list."""
    if len(data) < 5 or data[2] != 0:
        return ""
    name = data[5 : 5 + _number(data, 3, 2)]
    return name.decode("ascii").lower() if _HOST_NAME.fullmatch(name) else ""


def _read_protocols(data: bytes) -> tuple[str, ...]:
    """Names of a list; what is not printable (GREASE, RFC 8701) is left out."""
    found: list[str] = []
    offset = 2
    while offset < len(data) and len(found) < PROTOCOLS_MAX:
        name = data[offset + 1 : offset + 1 + data[offset]]
        offset += 1 + data[offset]
        if _PROTOCOL.fullmatch(name):
            found.append(name.decode("ascii"))
    return tuple(found)


def _read_versions(data: bytes) -> tuple[int, ...]:
    """Offered versions without GREASE."""
    numbers = [_number(data, offset, 2) for offset in range(1, len(data) - 1, 2)]
    return tuple(number for number in numbers if 0x0300 <= number <= 0x03FF)[:VERSIONS_MAX]


def _number(data: bytes, offset: int, size: int) -> int:
    return int.from_bytes(data[offset : offset + size], "big")


VERSIONS: Final = {0x0300: "SSL 3.0", 0x0301: "TLS 1.0", 0x0302: "TLS 1.1", 0x0303: "TLS 1.2", 0x0304: "TLS 1.3"}


def name_version(version: int) -> str:
    """`TLS 1.3`, or the number where it has no name."""
    return VERSIONS.get(version, f"0x{version:04x}")


# The suites that servers still choose, and those that none should; the registry has some 350.
CIPHER_SUITES: Final = {
    0x0001: "TLS_RSA_WITH_NULL_MD5",
    0x0002: "TLS_RSA_WITH_NULL_SHA",
    0x0003: "TLS_RSA_EXPORT_WITH_RC4_40_MD5",
    0x0004: "TLS_RSA_WITH_RC4_128_MD5",
    0x0005: "TLS_RSA_WITH_RC4_128_SHA",
    0x0006: "TLS_RSA_EXPORT_WITH_RC2_CBC_40_MD5",
    0x0008: "TLS_RSA_EXPORT_WITH_DES40_CBC_SHA",
    0x0009: "TLS_RSA_WITH_DES_CBC_SHA",
    0x000A: "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    0x0014: "TLS_DHE_RSA_EXPORT_WITH_DES40_CBC_SHA",
    0x0015: "TLS_DHE_RSA_WITH_DES_CBC_SHA",
    0x0016: "TLS_DHE_RSA_WITH_3DES_EDE_CBC_SHA",
    0x0017: "TLS_DH_anon_EXPORT_WITH_RC4_40_MD5",
    0x0018: "TLS_DH_anon_WITH_RC4_128_MD5",
    0x001B: "TLS_DH_anon_WITH_3DES_EDE_CBC_SHA",
    0x002F: "TLS_RSA_WITH_AES_128_CBC_SHA",
    0x0033: "TLS_DHE_RSA_WITH_AES_128_CBC_SHA",
    0x0034: "TLS_DH_anon_WITH_AES_128_CBC_SHA",
    0x0035: "TLS_RSA_WITH_AES_256_CBC_SHA",
    0x0039: "TLS_DHE_RSA_WITH_AES_256_CBC_SHA",
    0x003A: "TLS_DH_anon_WITH_AES_256_CBC_SHA",
    0x003B: "TLS_RSA_WITH_NULL_SHA256",
    0x003C: "TLS_RSA_WITH_AES_128_CBC_SHA256",
    0x003D: "TLS_RSA_WITH_AES_256_CBC_SHA256",
    0x0041: "TLS_RSA_WITH_CAMELLIA_128_CBC_SHA",
    0x0067: "TLS_DHE_RSA_WITH_AES_128_CBC_SHA256",
    0x006B: "TLS_DHE_RSA_WITH_AES_256_CBC_SHA256",
    0x006C: "TLS_DH_anon_WITH_AES_128_CBC_SHA256",
    0x006D: "TLS_DH_anon_WITH_AES_256_CBC_SHA256",
    0x0084: "TLS_RSA_WITH_CAMELLIA_256_CBC_SHA",
    0x009C: "TLS_RSA_WITH_AES_128_GCM_SHA256",
    0x009D: "TLS_RSA_WITH_AES_256_GCM_SHA384",
    0x009E: "TLS_DHE_RSA_WITH_AES_128_GCM_SHA256",
    0x009F: "TLS_DHE_RSA_WITH_AES_256_GCM_SHA384",
    0x00A6: "TLS_DH_anon_WITH_AES_128_GCM_SHA256",
    0x00A7: "TLS_DH_anon_WITH_AES_256_GCM_SHA384",
    0x1301: "TLS_AES_128_GCM_SHA256",
    0x1302: "TLS_AES_256_GCM_SHA384",
    0x1303: "TLS_CHACHA20_POLY1305_SHA256",
    0x1304: "TLS_AES_128_CCM_SHA256",
    0xC006: "TLS_ECDHE_ECDSA_WITH_NULL_SHA",
    0xC007: "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    0xC008: "TLS_ECDHE_ECDSA_WITH_3DES_EDE_CBC_SHA",
    0xC009: "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    0xC00A: "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    0xC010: "TLS_ECDHE_RSA_WITH_NULL_SHA",
    0xC011: "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    0xC012: "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    0xC013: "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    0xC014: "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    0xC015: "TLS_ECDH_anon_WITH_NULL_SHA",
    0xC016: "TLS_ECDH_anon_WITH_RC4_128_SHA",
    0xC017: "TLS_ECDH_anon_WITH_3DES_EDE_CBC_SHA",
    0xC018: "TLS_ECDH_anon_WITH_AES_128_CBC_SHA",
    0xC019: "TLS_ECDH_anon_WITH_AES_256_CBC_SHA",
    0xC023: "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    0xC024: "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384",
    0xC027: "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
    0xC028: "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384",
    0xC02B: "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    0xC02C: "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    0xC02F: "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    0xC030: "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    0xC09C: "TLS_RSA_WITH_AES_128_CCM",
    0xC09D: "TLS_RSA_WITH_AES_256_CCM",
    0xC0AC: "TLS_ECDHE_ECDSA_WITH_AES_128_CCM",
    0xC0AD: "TLS_ECDHE_ECDSA_WITH_AES_256_CCM",
    0xCCA8: "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    0xCCA9: "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    0xCCAA: "TLS_DHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
}


def name_cipher_suite(suite: int) -> str:
    """The registry's name, or the number where it is not among the known."""
    return CIPHER_SUITES.get(suite, f"0x{suite:04x}")


# What is weak about a choice, each with its source.
_WEAK_VERSION: Final = "{version} is deprecated (RFC 8996)"
_WEAK_SUITES: Final = (
    ("_NULL_", "nothing is encrypted (RFC 9325 4.1)"),
    ("_anon_", "nobody shows who they are (RFC 5246 F.1.1.1)"),
    ("_EXPORT_", "export suites have keys of 40 bits (RFC 9325 4.1)"),
    ("_DES_", "DES has keys of 56 bits (RFC 9325 4.1)"),
    ("_RC4_", "RC4 is prohibited (RFC 7465)"),
    ("_3DES_", "3DES has short blocks (RFC 9325 4.1)"),
    ("TLS_RSA_", "RSA key exchange has no forward secrecy (RFC 9325 4.1)"),
    ("_CBC_", "CBC suites are discouraged (RFC 9325 4.2)"),
)


def list_weaknesses(version: int, suite: int) -> tuple[str, ...]:
    """What is weak about a version and cipher suite that a server chose; nothing where neither is."""
    name = name_cipher_suite(suite)
    found = [_WEAK_VERSION.format(version=name_version(version))] if version < 0x0303 else []
    return (*found, *(sentence for part, sentence in _WEAK_SUITES if part in name))
