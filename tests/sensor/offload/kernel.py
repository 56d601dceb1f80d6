"""A kernel in Python: reads the maps as written and does what bpf/match.h does with a whole head, slowly."""

import re
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from common.keyed_hash import hash_siphash
from sensor.core.addresses import pack_address
from sensor.core.calls import Exchange, Role
from sensor.core.keyed import fold
from sensor.ebpf import hashes
from sensor.ebpf.abi import (
    EDGE,
    EDGE_KEY,
    LEAF,
    LEAF_KEY,
    NAME_BUCKET,
    NODE_NUMBER,
    NUMBER_NONE,
    PROFILE,
    PROFILE_KEY,
    RECORD,
    ROOT_KEY,
    SETTINGS,
    EdgeFlag,
    NameKind,
    RecordFlag,
    SegmentClass,
    Settings,
)
from sensor.offload.kernel_cache import MapName
from tests.bpf.varying_fields import IGNORED_KINDS, fold_actor, is_odd_value, read_cookies, read_line
from tests.sensor.records import make_exchange

RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call as the wire has it."""

    head: bytes
    status: int = 200
    time_ns: int = 1_000
    cgroup_id: int = 3
    peer_cgroup_id: int = 0
    role: Role = Role.SERVER
    local_address: str = "192.0.2.1"
    local_port: int = 80
    remote_address: str = "198.51.100.7"
    remote_port: int = 50_000
    response: bytes = RESPONSE


@dataclass(slots=True)
class Kernel:
    """Takes calls; gives exchanges of what it does not recognise and records of the rest."""

    maps: dict[MapName, dict[bytes, bytes]] = field(default_factory=lambda: {name: {} for name in MapName})
    heads_left: int = 1 << 30
    exchanges: list[Exchange] = field(default_factory=list)
    records: list[np.void] = field(default_factory=list)

    def update(self, name: MapName, elements: Mapping[bytes, bytes]) -> None:
        self.maps[name].update(elements)

    def delete(self, name: MapName, keys: Iterable[bytes]) -> None:
        for key in keys:
            self.maps[name].pop(key, None)

    def take(self, call: Call) -> str:
        """Which way the call went: `record`, `head` or `unlearned`."""
        settings = Settings(*SETTINGS.unpack(self.maps[MapName.SETTINGS][bytes(4)]))
        profile, host, credential, found = self._recognise(call, settings)
        if found is not None:
            self.records.append(self._make_record(call, profile, credential, *found))
            return "record"
        if self.heads_left <= 0:
            self.records.append(self._make_unlearned(call))
            return "unlearned"
        self.heads_left -= 1
        self.exchanges.append(self.make_exchange(call, profile, host, credential))
        return "head"

    def drain(self) -> tuple[list[Exchange], np.ndarray]:
        """What came since the last time."""
        exchanges, self.exchanges = self.exchanges, []
        records = np.array(self.records, RECORD)
        self.records = []
        return exchanges, records

    def _recognise(self, call: Call, settings: Settings):
        end = call.head.find(b"\r\n\r\n")
        lines = call.head[:end].split(b"\r\n")
        method, target, version = lines[0].split(b" ")
        path, _, query = target.partition(b"?")
        if any(byte in path for byte in b"%#;") or not path.startswith(b"/"):
            return 0, 0, 0, None
        sip = lambda text: hash_siphash(settings.sip_key, text)  # noqa: E731
        profile, host, credential, is_known = sip(version), 0, 0, True
        values: list[bytes] = []
        for pair in query.split(b"&") if query else ():
            name = pair.partition(b"=")[0]
            kind = self._find_name(hashes.hash_parameter_name(settings.seed, name))
            if kind == NameKind.QUERY_CREDENTIAL:
                profile = fold(profile, sip(pair))
            elif kind == NameKind.QUERY_OBJECT:
                values += [pair.partition(b"=")[2]] if pair.partition(b"=")[2] else []
                is_known &= not re.search(rb"[%=\"'<>;${}#]", pair.partition(b"=")[2])
            elif kind != NameKind.QUERY_IGNORED:
                is_known = False
        for line in lines[1:]:
            name, _, value = line.partition(b":")
            kind = self._find_name(hashes.hash_header_name(settings.seed, name))
            if kind == NameKind.HEADER_HOST:
                host = sip(value.strip(b" \t"))
            elif kind == NameKind.HEADER_COOKIE:
                profile, credential = read_cookies(
                    line,
                    fold(profile, hashes.hash_header_name(settings.seed, name)),
                    credential,
                    find_kind=lambda cookie: self._find_name(hashes.hash_cookie_name(settings.seed, cookie)),
                    hash_name=lambda cookie: hashes.hash_cookie_name(settings.seed, cookie),
                    hash_line=sip,
                    hash_value=sip,
                )
            elif kind not in IGNORED_KINDS or is_odd_value(line, is_quoted=kind == NameKind.HEADER_QUOTED):
                profile, credential = read_line(
                    kind,
                    line,
                    profile,
                    credential,
                    name_hash=hashes.hash_header_name(settings.seed, name),
                    hash_line=sip,
                    hash_value=sip,
                )
        found = _fold_query(self._walk(call, method, path, host, sip), values, sip)
        number = self.maps[MapName.PROFILES].get(PROFILE_KEY.pack(profile))
        if found is None:
            return profile, host, credential, None
        if number is None or not is_known:
            leaf_key, object_hash, object_number = found
            route = LEAF.unpack(self.maps[MapName.LEAVES][leaf_key])[1]
            return profile, host, credential, (route, 0, object_hash, object_number) if self.heads_left <= 0 else None
        leaf_key, object_hash, object_number = found
        next_head_ns, route, first, quiet, classes = LEAF.unpack(self.maps[MapName.LEAVES][leaf_key])
        if next_head_ns <= call.time_ns:
            wait_ns = 0 if first else settings.head_sample_ns
            leaf = LEAF.pack(call.time_ns + wait_ns, route, max(0, first - 1), quiet, classes)
            self.maps[MapName.LEAVES][leaf_key] = leaf
            return profile, host, credential, None
        return profile, host, credential, (route, PROFILE.unpack(number)[0], object_hash, object_number)

    def _walk(self, call: Call, method: bytes, path: bytes, host: int, sip):
        is_server = call.role is Role.SERVER
        address = pack_address(call.local_address if is_server else call.remote_address)
        key = ROOT_KEY.pack(
            call.cgroup_id, host, int.from_bytes(method, "little"), hashes.fold_address(address),
            call.local_port if is_server else call.remote_port, call.role, 4 if len(address) == 4 else 6,
        )  # fmt: skip
        root = self.maps[MapName.ROOTS].get(key)
        if root is None or len(method) > 8:
            return None
        node = NODE_NUMBER.unpack(root)[0]
        segments = path[1:].split(b"/")
        has_slash = len(segments) > 1 and segments[-1] == b""
        if segments[-1] == b"":
            del segments[-1]
        object_hash, object_number = 0, NUMBER_NONE
        for depth, segment in enumerate(segments):
            hashed, shape = sip(segment), hashes.find_shape(segment)
            edge = self._find_exact(node, hashed)
            if edge is None and shape and not (shape == SegmentClass.DIGITS and len(segment) <= 2 and depth <= 2):
                edge = self.maps[MapName.EDGES].get(EDGE_KEY.pack(node, shape, 0))
            if edge is None:
                return None
            node, flags = EDGE.unpack(edge)
            if flags & EdgeFlag.PARAMETER:
                object_hash = fold(object_hash, hashed) if object_hash else hashed
                is_number = shape & 0xFF == SegmentClass.DIGITS
                object_number = int(segment) if is_number else NUMBER_NONE
        leaf_key = LEAF_KEY.pack(node, has_slash)
        return (leaf_key, object_hash, object_number) if leaf_key in self.maps[MapName.LEAVES] else None

    def _find_exact(self, node: int, hashed: int) -> bytes | None:
        word, bit = hashes.find_sign(node, hashed)
        if not int.from_bytes(self.maps[MapName.EDGE_SIGNS].get(word.to_bytes(4, "little"), b""), "little") & bit:
            return None
        return self.maps[MapName.EDGES].get(EDGE_KEY.pack(node, SegmentClass.EXACT, hashed))

    def _find_name(self, name_hash: int) -> int:
        bucket = self.maps[MapName.NAMES].get(struct.pack("<I", hashes.find_bucket(name_hash)), bytes(32))
        for entry in NAME_BUCKET.unpack(bucket):
            if entry and entry & ~0xFF == name_hash & ~0xFF:
                return entry & 0xFF
        return 0

    def _make_record(
        self, call: Call, profile: int, credential: int, route: int, number: int, object_hash: int, object_number: int
    ):
        record = np.zeros((), RECORD)
        is_server = call.role is Role.SERVER
        address = pack_address(call.remote_address if is_server else call.local_address)
        record["time_ns"], record["cgroup_id"], record["role"] = call.time_ns, call.cgroup_id, call.role
        record["peer_cgroup_id"], record["status"], record["calls"] = call.peer_cgroup_id, call.status, 1
        record["local_port"], record["remote_port"] = call.local_port, call.remote_port
        ends = f"{call.cgroup_id} {call.local_address}:{call.local_port} {call.remote_address}:{call.remote_port}"
        record["connection"] = zlib.crc32(ends.encode())
        record["family"] = 4 if len(address) == 4 else 6
        record["client_address"] = np.frombuffer(address.ljust(16, b"\0"), np.uint8)
        client = call.peer_cgroup_id if is_server else call.cgroup_id
        record["actor"] = fold_actor(profile, credential, address, client)
        record["route"], record["profile"], record["credential"] = route, number, credential
        record["object"], record["number"] = object_hash, object_number
        record["flags"] = RecordFlag.FINAL
        record["request_bytes"], record["response_bytes"] = len(call.head), len(call.response)
        record["ttfb_us"], record["duration_us"] = 2, 3
        return record[()]

    def _make_unlearned(self, call: Call):
        record = self._make_record(call, 0, 0, 0, 0, 0, 0)
        address = pack_address(call.local_address if call.role is Role.SERVER else call.remote_address)
        record["object"], record["number"] = struct.unpack("<2Q", address.ljust(16, b"\0"))
        record["flags"] |= RecordFlag.UNLEARNED
        return record

    @staticmethod
    def make_exchange(call: Call, profile: int = 0, host: int = 0, credential: int = 0) -> Exchange:
        """The same call on the slow path."""
        return make_exchange(
            time_unix_ns=call.time_ns,
            connection=1,
            call=0,
            role=call.role,
            cgroup_id=call.cgroup_id,
            peer_cgroup_id=call.peer_cgroup_id,
            local_address=call.local_address,
            local_port=call.local_port,
            remote_address=call.remote_address,
            remote_port=call.remote_port,
            request_head=call.head,
            is_request_head_truncated=False,
            response_head=call.response,
            status_code=call.status,
            request_bytes=len(call.head),
            response_bytes=len(call.response),
            time_to_first_byte_ns=2_000,
            duration_ns=3_000,
            calls=1,
            is_final=True,
            is_aborted=False,
            is_lossy=False,
            profile=profile,
            host=host,
            credential=credential,
        )


def _fold_query(found, values: list[bytes], sip):
    """What the path gave, with the objects of the query folded in."""
    if found is None:
        return None
    leaf_key, object_hash, number = found
    for value in values:
        object_hash = fold(object_hash, sip(value)) if object_hash else sip(value)
        number = int(value) if value.isdigit() and len(value) <= 18 else NUMBER_NONE
    return leaf_key, object_hash, number
