"""What the kernel makes of a head, in plain Python: the hashes of profile, host and values. And a teacher that writes
the maps by hand, as `sensor.offload` would from described calls."""

import os
from dataclasses import dataclass, field

from common.keyed_hash import hash_siphash
from sensor.capture.packets.capture import PacketCapture
from sensor.core.addresses import pack_address
from sensor.core.keyed import fold, fold_all
from sensor.ebpf import hashes
from sensor.ebpf.abi import (
    EDGE,
    EDGE_KEY,
    LEAF,
    LEAF_KEY,
    NAME_BUCKET,
    NAME_WAYS,
    NODE_NUMBER,
    NUMBER_NONE,
    PROFILE,
    PROFILE_KEY,
    ROOT_KEY,
    SETTINGS,
    EdgeFlag,
    NameKind,
    Settings,
)
from tests.bpf.varying_fields import IGNORED_KINDS, is_odd_value, read_cookies, read_line

_MASK = (1 << 64) - 1
FAR_NS = 1 << 62  # A time that never comes: no samples.


def hash_fast(key: bytes, message: bytes) -> int:
    """SipHash-1-3, which the kernel uses for what it alone hashes."""

    def rotate(word: int, bits: int) -> int:
        return (word << bits | word >> (64 - bits)) & _MASK

    key0, key1 = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")
    v = [key0 ^ 0x736F6D6570736575, key1 ^ 0x646F72616E646F6D, key0 ^ 0x6C7967656E657261, key1 ^ 0x7465646279746573]

    def turn(count: int) -> None:
        for _ in range(count):
            v[0] = (v[0] + v[1]) & _MASK
            v[2] = (v[2] + v[3]) & _MASK
            v[1] = rotate(v[1], 13) ^ v[0]
            v[3] = rotate(v[3], 16) ^ v[2]
            v[0] = rotate(v[0], 32)
            v[2] = (v[2] + v[1]) & _MASK
            v[0] = (v[0] + v[3]) & _MASK
            v[1] = rotate(v[1], 17) ^ v[2]
            v[3] = rotate(v[3], 21) ^ v[0]
            v[2] = rotate(v[2], 32)

    rest = len(message) % 8
    words = [int.from_bytes(message[i : i + 8], "little") for i in range(0, len(message) - rest, 8)]
    words.append(int.from_bytes(message[len(message) - rest :], "little") | (len(message) & 0xFF) << 56)
    for word in words:
        v[3] ^= word
        turn(1)
        v[0] ^= word
    v[2] ^= 0xFF
    turn(3)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


@dataclass(slots=True)
class Reference:
    """Key, seed and names, as the kernel was told; reads heads of the plain form."""

    key: bytes = field(default_factory=lambda: os.urandom(16))
    seed: int = field(default_factory=lambda: int.from_bytes(os.urandom(8), "little"))
    names: dict[tuple[bool, bytes], NameKind] = field(default_factory=dict)  # (is_parameter, lower case).
    cookies: dict[bytes, NameKind] = field(default_factory=dict)  # By name as it is sent.

    def profile_and_host(self, head: bytes) -> tuple[int, int]:
        """Of a whole head."""
        return self.read(head)[:2]

    def read(self, head: bytes) -> tuple[int, int, int]:
        """Profile, host and credential of a whole head."""
        lines = head[: head.index(b"\r\n\r\n")].split(b"\r\n")
        target, version = lines[0].split(b" ", 1)[1].rsplit(b" ", 1)
        profile, host, credential = fold(0, version[-1]), 0, 0
        for line in lines[1:]:
            name, _, value = line.partition(b":")
            if name.lower() in (b"content-length", b"transfer-encoding"):
                continue
            kind = self.names.get((False, name.lower()))
            if kind is NameKind.HEADER_HOST:
                host = hash_fast(self.key, value.strip(b" \t"))
            elif kind is NameKind.HEADER_COOKIE:
                profile, credential = read_cookies(
                    line,
                    fold(profile, hashes.hash_header_name(self.seed, name)),
                    credential,
                    find_kind=lambda cookie: self.cookies.get(cookie, 0),
                    hash_name=lambda cookie: hashes.hash_cookie_name(self.seed, cookie),
                    hash_line=lambda part: hash_fast(self.key, part),
                    hash_value=self.hash_segment,
                )
            elif kind not in IGNORED_KINDS or is_odd_value(line, is_quoted=kind is NameKind.HEADER_QUOTED):
                profile, credential = read_line(
                    kind or 0,
                    line,
                    profile,
                    credential,
                    name_hash=hashes.hash_header_name(self.seed, name),
                    hash_line=lambda part: hash_fast(self.key, part),
                    hash_value=self.hash_segment,
                )
        query = target.partition(b"?")[2]
        for pair in query.split(b"&") if query else ():
            if self.names.get((True, pair.partition(b"=")[0].lower())) is NameKind.QUERY_CREDENTIAL:
                profile = fold(profile, hash_fast(self.key, pair))
        return profile, host, credential

    def query_object(self, head: bytes) -> tuple[int, int]:
        """Object and number of the query of a whole head."""
        target = head[: head.index(b"\r\n")].split(b" ", 1)[1].rsplit(b" ", 1)[0]
        folded, number = 0, NUMBER_NONE
        for pair in target.partition(b"?")[2].split(b"&"):
            name, _, value = pair.partition(b"=")
            if value and self.names.get((True, name.lower())) is NameKind.QUERY_OBJECT:
                hashed = self.hash_segment(value)
                folded = fold(folded, hashed) if folded else hashed
                number = int(value) if value.isdigit() and len(value) <= 18 else NUMBER_NONE
        return folded, number

    def hash_segment(self, segment: bytes) -> int:
        """Of a path segment."""
        return hash_siphash(self.key, segment) or 1


class Teacher:
    """Installs entries in the kernel of a `PacketCapture` by hand, and removes them at `close`."""

    def __init__(self, capture: PacketCapture, **settings: int) -> None:
        self.reference = Reference()
        self._capture = capture
        self._written: dict[str, dict[bytes, bytes]] = {}
        self._next = 1
        self._profiles: dict[int, int] = {}
        self._nodes: dict[bytes, int] = {}
        self._signs: dict[int, int] = {}
        self._buckets: dict[int, list[int]] = {}
        self.name(False, b"host", NameKind.HEADER_HOST)
        for name in (b"user-agent", b"accept", b"x-request-id", b"accept-encoding", b"x-filler"):
            self.name(False, name, NameKind.HEADER_IGNORED)
        self.set(**settings)

    def set(self, **settings: int) -> None:
        """Turns recognition on; fields of Settings by name."""
        values = {
            "is_recognising": 1,
            "head_sample_ns": 1_000_000_000,
            "heads_per_second": 1_000_000,
            "heads_burst": 1_000_000,
            "node_heads_per_second": 1_000_000,
            "node_heads_burst": 1_000_000,
            "body_bytes_per_second": 0,
            "node_body_bytes_per_second": 0,
            "samples_per_second": 70_000,
        } | settings
        packed = Settings(sip_key=self.reference.key, seed=self.reference.seed, **values)
        self._capture.update("settings", {bytes(4): SETTINGS.pack(*packed)})

    def close(self) -> None:
        """Forgets all, turns recognition off."""
        self._capture.update("settings", {bytes(4): bytes(SETTINGS.size)})
        for name, elements in self._written.items():
            if name in ("names", "edge_signs"):  # Arrays.
                size = len(next(iter(elements.values())))
                self._capture.update(name, dict.fromkeys(elements, bytes(size)))
            else:
                self._capture.delete(name, elements)

    def _write(self, name: str, key: bytes, value: bytes) -> None:
        self._capture.update(name, {key: value})
        self._written.setdefault(name, {})[key] = value

    def _number(self) -> int:
        self._next += 1
        return self._next

    def name(self, is_parameter: bool, name: bytes, kind: NameKind) -> None:
        """Tells the kind of a name."""
        reference = self.reference
        hashed = (hashes.hash_parameter_name if is_parameter else hashes.hash_header_name)(reference.seed, name)
        self._name(hashed, kind)
        reference.names[is_parameter, name.lower()] = kind

    def cookie(self, name: bytes, kind: NameKind) -> None:
        """The same of a cookie."""
        self._name(hashes.hash_cookie_name(self.reference.seed, name), kind)
        self.reference.cookies[name] = kind

    def _name(self, hashed: int, kind: NameKind) -> None:
        bucket = self._buckets.setdefault(hashes.find_bucket(hashed), [])
        bucket.append(hashed & ~0xFF | kind)
        assert len(bucket) <= NAME_WAYS
        key = hashes.find_bucket(hashed).to_bytes(4, "little")
        self._write("names", key, NAME_BUCKET.pack(*bucket, *[0] * (NAME_WAYS - len(bucket))))

    def profile(self, head: bytes) -> int:
        """Teaches the profile of a head; gives its number."""
        hashed, _ = self.reference.profile_and_host(head)
        number = self._profiles.get(hashed)
        if number is None:
            number = self._profiles[hashed] = self._number()
            self._write("profiles", PROFILE_KEY.pack(hashed), PROFILE.pack(number))
        return number

    def path(
        self,
        head: bytes,
        *,
        cgroup_id: int,
        port: int,
        address: str = "127.0.0.1",
        role: int = 1,
        values: tuple[int, ...] = (),
        is_exact: bool = False,
        next_head_ns: int = FAR_NS,
        first: int = 0,
        classes: int = (1 << 64) - 1,
    ) -> int:
        """Teaches the way of a head's path; segments at `values` are parameters, by class unless `is_exact`. Gives the
        route's number."""
        line = head.split(b"\r\n", 1)[0]
        method, target, _ = line.split(b" ")
        path = target.partition(b"?")[0]
        _, host = self.reference.profile_and_host(head)
        packed = pack_address(address)
        key = ROOT_KEY.pack(
            *(cgroup_id, host, int.from_bytes(method[:8], "little"), hashes.fold_address(packed), port, role),
            4 if len(packed) == 4 else 6,
        )
        node = self._nodes.get(key)
        if node is None:
            node = self._nodes[key] = self._number()
            self._write("roots", key, NODE_NUMBER.pack(node))
        segments = path[1:].split(b"/")
        has_slash = len(segments) > 1 and not segments[-1]
        if not segments[-1]:
            del segments[-1]
        for index, segment in enumerate(segments):
            is_value = index in values
            if is_value and not is_exact:
                edge = EDGE_KEY.pack(node, hashes.find_shape(segment), 0)
            else:
                edge = EDGE_KEY.pack(node, 0, self._sign(node, self.reference.hash_segment(segment)))
            known = self._nodes.get(edge)
            if known is None:
                known = self._nodes[edge] = self._number()
                self._write("edges", edge, EDGE.pack(known, EdgeFlag.PARAMETER if is_value else 0))
            node = known
        leaf = LEAF_KEY.pack(node, has_slash)
        route = self._nodes.get(b"leaf" + leaf)
        if route is None:
            route = self._nodes[b"leaf" + leaf] = self._number()
        self._write("leaves", leaf, LEAF.pack(next_head_ns, route, first, 0, classes))
        return route

    def _sign(self, node: int, segment: int) -> int:
        word, bit = hashes.find_sign(node, segment)
        self._signs[word] = self._signs.get(word, 0) | bit
        self._write("edge_signs", word.to_bytes(4, "little"), self._signs[word].to_bytes(8, "little"))
        return segment

    def object_and_number(self, values: list[bytes]) -> tuple[int, int]:
        """What a record says of a path with these values."""
        number = NUMBER_NONE
        if values and values[-1].isdigit() and len(values[-1]) <= 18:
            number = int(values[-1])
        return fold_all(map(self.reference.hash_segment, values)), number
