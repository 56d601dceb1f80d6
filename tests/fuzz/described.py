"""What is fuzzed of what is told about a call, and of what a node and its collector tell each other."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from apidae.v1 import stream_pb2
from google.protobuf.message import DecodeError

from collector.ingest.convert import Refusal, convert_bytes
from collector.rows import RowBatch
from sensor.bodies.decoding import DECODED_BYTES_MAX, decode
from sensor.bodies.documents import read_document
from sensor.bodies.framing import read_payload
from sensor.calls import AuthenticationKind
from sensor.classify.client_address import ClientAddresses, read_networks
from sensor.classify.principal import Principals
from sensor.classify.sensitive.document import MAX_NODES, find_sensitive
from sensor.keyed import KeyedHash
from sensor.protocols.http1 import Malformed, parse_request_head
from sensor.spool import Spool
from sensor.uplink.messages import read_policy, read_reveal_request, read_welcome
from sensor.uplink.policy import Policy, apply_update

_FAST: Final = "/dev/shm" if Path("/dev/shm").is_dir() else None
_HASH: Final = KeyedHash(1, b"0123456789abcdef")
_PRINCIPALS: Final = Principals(_HASH)
_ADDRESSES: Final = ClientAddresses(("10.0.0.0/8", "fd00::/8"))
NOW: Final = 1_800_000_000
CODINGS: Final = (b"", b"gzip", b"deflate", b"br", b"zstd", b"gzip, br", b"x")
MEDIA_TYPES: Final = (
    "application/json", "application/x-ndjson", "text/csv", "application/x-www-form-urlencoded", "", "text/plain",
    "application/problem+json", "text/html",
)  # fmt: skip


def fuzz_sensitive(data: bytes) -> None:
    """Any JSON document has findings, in order and bounded."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return
    found = find_sensitive(document)
    assert found == sorted(found) and len(found) <= 16 * MAX_NODES


def fuzz_body(data: bytes) -> None:
    """A body of any coding and type, whole or cut: decoded within its bound, read or refused, and classified."""
    if len(data) < 2:
        return
    coding, media_type = CODINGS[data[0] % len(CODINGS)], MEDIA_TYPES[data[1] % len(MEDIA_TYPES)]
    is_complete, data = data[0] < 128, data[2:]
    head, _, raw = data.partition(b"\r\n\r\n")
    read_payload(head, raw, is_request=is_complete, is_whole=is_complete)
    decoded = decode(data, coding, is_complete=is_complete)
    assert len(decoded.data) <= DECODED_BYTES_MAX
    try:
        document = read_document(decoded.data, media_type, is_complete=decoded.is_complete)
    except ValueError:
        return
    if document is not None:
        assert document.records is None or document.records >= 0
        find_sensitive(document.values)


def fuzz_credentials(data: bytes) -> None:
    """Who calls, by any head: kinds that are known, hashes, and an address that is one."""
    head = parse_request_head(data, False)
    if isinstance(head, Malformed):
        return
    credentials = _PRINCIPALS.read(head)
    assert AuthenticationKind(credentials.kinds) == credentials.kinds
    assert not credentials.is_truncated
    read_networks([_ADDRESSES.find(head, "10.0.0.1")])


def fuzz_batch(data: bytes) -> None:
    """What a sensor sends is taken or refused in words."""
    taken = convert_bytes(data, NOW)
    assert isinstance(taken, RowBatch) or (isinstance(taken, Refusal) and taken.reason)


def fuzz_orders(data: bytes) -> None:
    """What a collector sends a sensor is followed or refused in words."""
    policy = Policy(epoch=3)
    try:
        result = apply_update(policy, read_policy(stream_pb2.Policy.FromString(data)))
        assert result.is_applied or (result.policy is policy and result.reason)
    except DecodeError:
        pass
    try:
        assert all(key.is_valid for key in read_welcome(stream_pb2.Welcome.FromString(data)).keys)
        read_reveal_request(stream_pb2.RevealRequest.FromString(data))
    except DecodeError:
        pass


def fuzz_spool(data: bytes) -> None:
    """A segment as it may lie on a disk: what is whole of it is read back, all else is counted."""
    with tempfile.TemporaryDirectory(dir=_FAST) as name:
        directory = Path(name)
        (directory / "000000000001.seg").write_bytes(data)
        spool = Spool(directory, boot_id="0" * 32)
        assert 0 <= spool.torn_bytes <= len(data)
        for entry in spool.waiting():
            payload = spool.read(entry.ordinal)
            assert payload is not None and payload in data
        spool.close()


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "sensitive": fuzz_sensitive,
    "body": fuzz_body,
    "credentials": fuzz_credentials,
    "batch": fuzz_batch,
    "orders": fuzz_orders,
    "spool": fuzz_spool,
}
