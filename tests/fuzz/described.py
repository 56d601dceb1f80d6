"""What is fuzzed of what is told about a call, and of what a node and its collector tell each other."""

import json
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final

from apidae.v1 import stream_pb2
from google.protobuf.message import DecodeError

from collector.receiver.convert import Refusal, convert_bytes
from collector.storage.columns import RowBatch
from sensor.core.calls import AuthenticationKind, Origin
from sensor.core.keyed import KeyedHash
from sensor.describe.attacks.classes import AttackClass, Request
from sensor.describe.attacks.classifier import AttackClassifier
from sensor.describe.attacks.core_rules import load_core_rules
from sensor.describe.auth.principal import Principals
from sensor.describe.bodies.decoding import DECODED_BYTES_MAX, decode, read_payload
from sensor.describe.bodies.documents import read_document
from sensor.describe.bodies.protobuf import read_protobuf
from sensor.describe.client_address import ClientAddresses, read_networks
from sensor.describe.schemas.operations import Operation, find_in_document, has_failed
from sensor.describe.schemas.tree import MAX_FIELDS, Tree
from sensor.export.messages import read_policy, read_reveal_request, read_welcome, write_policy_result
from sensor.export.policy import Policy, apply_update
from sensor.export.spool import Spool
from sensor.http.http1.head import Malformed, parse_request_head
from sensor.routes.vocabulary import Vocabulary, load_vocabulary
from sensor.sensitive.document import MAX_NODES, find_sensitive

_FAST: Final = "/dev/shm" if Path("/dev/shm").is_dir() else None
_HASH: Final = KeyedHash(1, b"0123456789abcdef")
_PRINCIPALS: Final = Principals(_HASH)
_ADDRESSES: Final = ClientAddresses(("10.0.0.0/8", "fd00::/8"))
NOW: Final = 1_800_000_000
CODINGS: Final = (b"", b"gzip", b"deflate", b"br", b"zstd", b"gzip, br", b"x")
MEDIA_TYPES: Final = (
    "application/json", "application/x-ndjson", "text/csv", "application/x-www-form-urlencoded", "", "text/plain",
    "application/problem+json", "text/html", "application/xml", "multipart/form-data", "application/grpc",
    "application/x-protobuf", "text/event-stream", "application/json-seq", "application/connect+json",
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
    tree = Tree(_vocabulary())
    message = read_protobuf(decoded.data, media_type, is_complete=decoded.is_complete)
    if message is not None:
        tree.learn(message, Origin(1, 1, 1), 1, is_cut=not decoded.is_complete)
    try:
        document = read_document(decoded.data, media_type, is_complete=decoded.is_complete)
    except ValueError:
        return
    if document is not None:
        assert document.records is None or document.records >= 0
        find_sensitive(document.values)
        tree.learn(document.tree, Origin(1, 1, 1), 1, is_cut=not is_complete)
        assert all(isinstance(one, Operation) and one.name for one in find_in_document(document.tree))
        has_failed(document.tree)
    assert len(tree.list_fields()) <= MAX_FIELDS


def fuzz_attack(data: bytes) -> None:
    """Lines of target, headers (a pipe between) and media type, then a body: an attack or none, whatever
    rules see; the same twice."""
    lines = [line.decode("latin-1") for line in data.split(b"\n", 3)] + [""] * 4
    path, _, query = lines[0].partition("?")
    headers = tuple((name.lower(), value) for name, _, value in (one.partition(":") for one in lines[1].split("|")))
    request = Request(path, query, "POST", headers, lines[3], lines[2])
    found = _classifier().classify(request)
    assert found is None or (found.attack_class in AttackClass and found.payload_hash)
    assert found == _classifier().classify(request)
    for _, value in headers:
        _classifier().is_odd(value)


def fuzz_credentials(data: bytes) -> None:
    """Who calls, by any head: kinds that are known, hashes, and an address that is one."""
    head = parse_request_head(data, False)
    if isinstance(head, Malformed):
        return
    credentials = _PRINCIPALS.read(head)
    assert AuthenticationKind(credentials.authentication) == credentials.authentication
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
        update = read_policy(stream_pb2.Policy.FromString(data))
        result = apply_update(policy, update)
        assert result.is_applied or (result.policy is policy and result.reason.isprintable() and result.reason)
        if result.is_applied:
            assert all(block.id.isprintable() for block in update.blocks or ())
        told = stream_pb2.ConnectRequest.FromString(write_policy_result(result).SerializeToString()).policy_result
        assert (told.epoch, told.is_applied, told.reason) == (update.epoch, result.is_applied, result.reason)
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
        assert 0 <= spool.counts.torn_bytes <= len(data)
        for entry in spool.waiting():
            payload = spool.read(entry.ordinal)
            assert payload is not None and payload in data
        spool.close()


@cache
def _vocabulary() -> Vocabulary:
    return load_vocabulary()


@cache
def _classifier() -> AttackClassifier:
    return AttackClassifier(_HASH.compute, load_core_rules())


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "sensitive": fuzz_sensitive,
    "body": fuzz_body,
    "attack": fuzz_attack,
    "credentials": fuzz_credentials,
    "batch": fuzz_batch,
    "orders": fuzz_orders,
    "spool": fuzz_spool,
}
