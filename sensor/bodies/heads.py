"""Sensitive data beside the bodies: path, query and headers of a request head in, codes of kinds out; values end here.

Credentials are none of it (sensor.classify.authentication reads them), nor are the addresses that proxies add. A path
segment is named by the one before it, as in `/emails/ada@example.org`.
"""

import re
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final
from urllib.parse import parse_qsl, unquote

from sensor.classify.authentication import is_key_header
from sensor.classify.sensitive.document import classify_field
from sensor.classify.sensitive.kinds import (
    DATA_CLASSES,
    HEAD_READ,
    PLACE_SHIFT,
    CallFact,
    DataClass,
    DataKind,
    DataPlace,
    make_codes,
)
from sensor.protocols.http1 import RequestHead

# Looked at of one head; a hostile one must not cost more than a body does.
SEGMENTS_MAX: Final = 32
PARAMETERS_MAX: Final = 64
HEADERS_MAX: Final = 64
VALUE_CHARACTERS_MAX: Final = 512
_FILE = re.compile(r"\.(?:png|jpe?g|gif|svg|webp|ico|css|m?js|map|woff2?|ttf|html?|xml|json|pdf|txt)\Z", re.IGNORECASE)
# Where credentials and addresses of proxies stand.
_OTHERWISE_READ: Final = frozenset(
    (b"authorization", b"proxy-authorization", b"cookie", b"host", b"forwarded", b"via", b"signature-input")
)
# How proxies say that the client spoke TLS with them.
_TLS_HEADERS: Final = {
    b"x-forwarded-proto": b"https",
    b"x-forwarded-protocol": b"https",
    b"x-forwarded-scheme": b"https",
    b"x-scheme": b"https",
    b"x-forwarded-ssl": b"on",
    b"front-end-https": b"on",
    b"x-arr-ssl": b"",
    b"cloudfront-forwarded-proto": b"https",
}


def read_head(head: RequestHead, remote_address: str, *, is_encrypted: bool = False) -> set[int]:
    """Codes of what the head holds (sensor.classify.sensitive.kinds), with HEAD_READ. Never raises. Cost: some 10 us a
    parameter; of sampled calls only."""
    return {
        HEAD_READ,
        *make_codes(DataPlace.PATH, _read_path(head.path)),
        *make_codes(DataPlace.QUERY, _read_query(head.query)),
        *make_codes(DataPlace.REQUEST_HEADER, _read_headers(head)),
        *(DataPlace.CALL << PLACE_SHIFT | fact for fact in _find_facts(head, remote_address, is_encrypted)),
    }


def _read_path(path: str) -> set[DataKind]:
    found: set[DataKind] = set()
    before = ""
    for segment in path.split("/")[: SEGMENTS_MAX + 1]:
        text = unquote(segment)[:VALUE_CHARACTERS_MAX]
        if text:
            # A word after `phone` names what is done with it.
            if _FILE.search(text):  # `logo@2x.png` is no address.
                continue
            kinds = classify_field(before if any(map(str.isdigit, text)) or "@" in text else "", text)
            found |= _drop_technical(kinds)
        before = text
    return found


def _read_query(query: str) -> set[DataKind]:
    found: set[DataKind] = set()
    if query:
        try:
            pairs = parse_qsl(query, max_num_fields=4 * PARAMETERS_MAX)
        except ValueError:  # More fields than anybody reads.
            return found
        for name, value in pairs[:PARAMETERS_MAX]:
            found |= _drop_technical(classify_field(name, value[:VALUE_CHARACTERS_MAX]))
    return found


def _read_headers(head: RequestHead) -> set[DataKind]:
    found: set[DataKind] = set()
    for header in head.headers[:HEADERS_MAX]:
        name = header.name
        if not name or name in _OTHERWISE_READ or is_key_header(name):
            continue
        text = header.value[:VALUE_CHARACTERS_MAX].decode("latin-1")
        found |= _drop_technical(classify_field(name.decode("latin-1"), text))
    # Tokens in headers of any name are credentials, and read as such.
    return found - {DataKind.JWT}


def _drop_technical(kinds: Iterable[DataKind]) -> set[DataKind]:
    """Addresses of machines in a head are how it travels."""
    return {kind for kind in kinds if DATA_CLASSES[kind] is not DataClass.TECHNICAL}


def _find_facts(head: RequestHead, remote_address: str, is_encrypted: bool) -> Iterable[CallFact]:
    if is_encrypted or any(_says_tls(header.name, header.value.lower()) for header in head.headers[:HEADERS_MAX]):
        yield CallFact.ENCRYPTED
    try:
        if ip_address(remote_address.partition("%")[0]).is_loopback:
            yield CallFact.LOOPBACK
    except ValueError:
        return


def _says_tls(name: bytes, value: bytes) -> bool:
    if name == b"forwarded":
        return b"proto=https" in value.replace(b'"', b"")
    wanted = _TLS_HEADERS.get(name)
    # The first of several is what the client spoke.
    return wanted is not None and value.split(b",")[0].strip().startswith(wanted)
