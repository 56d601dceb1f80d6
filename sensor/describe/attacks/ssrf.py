"""Finds server-side request forgery that worked: a request names a host, and the service that got it connects there.

All matching happens on the node. A **contact** is a call that a workload of this node makes, seen at either end, or a
TLS connection that it opens, by the name in its first message and by its address. A **naming** is a request with a host
in its query or body, such as an argument of a tool. Of both, names and addresses are kept as keyed hashes. A contact
that began within WAIT_NS of a naming, to the host or the address that it names, is a match. Either may be described
first, so both are remembered for that time.

What the contact reached decides, not what the name looks like: so a name that DNS leads inside counts, and so does an
address in decimal, octal or hexadecimal digits. Only these are reported:

- addresses that give credentials to cloud instances (METADATA), always. They also count without being named, where the
  same request named another host that was contacted before, and the contact has none of the fields that SDKs send and
  redirects cannot: a redirect led there.
- loopback and private addresses, where the workload made no contact to this port of it before, and was watched for
  LEARNING_NS.

Public hosts are what webhooks and previews are for. Connections without HTTP and TLS are not seen.
Source: OWASP API7:2023; addresses of AWS, Google Cloud, Azure, Oracle and Alibaba; inet_aton(3).
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final
from unicodedata import normalize
from urllib.parse import unquote

import msgspec

from common.bounded import BoundedDict
from sensor.core.calls import CallRecord, Ends, Handshake, Role
from sensor.core.health import AttackAccount
from sensor.core.keyed import KeyedHash
from sensor.describe.attacks.classes import Attack, AttackClass, AttackConfidence, AttackEvidence, pack_payload
from sensor.http.http1.head import RequestHead

WAIT_NS: Final = 5 * 10**9
LED_NS: Final = 2 * 10**9  # From an answer that redirects to the next contact.
LEARNING_NS: Final = 300 * 10**9
WORKLOADS_MAX: Final = 1_024  # The least recently active is forgotten.
RECENT_MAX: Final = 64  # Contacts, and namings, of a workload.
KNOWN_MAX: Final = 1_024  # Ends that a workload contacted before.
NAMERS_MAX: Final = 3  # Callers who are reported for one inner end: what more of them name is what it is for.
HOSTS_MAX: Final = 16  # Of one request.
TEXT_MAX: Final = 8_192
_METADATA: Final = frozenset(
    map(ip_address, ("169.254.169.254", "169.254.170.2", "169.254.170.23", "fd00:ec2::254", "100.100.100.200",
                     "192.0.0.192", "fd20:ce::254", "168.63.129.16"))
)  # fmt: skip
# Where SDKs send no field; elsewhere they send one of these.
_WITHOUT_FIELDS: Final = frozenset(map(ip_address, ("169.254.170.2", "169.254.170.23", "168.63.129.16")))
_FIELDS: Final = (b"metadata", b"metadata-flavor", b"x-aws-ec2-metadata-token")
_SHARED: Final = (int(IPv4Address("100.64.0.0")), 10)  # RFC 6598, inside providers and clusters.
_TRANSLATED: Final = IPv6Address("64:ff9b::")
_SIGN: Final = re.compile(r"//|\\/\\/|\\\\|%2f%2f|%5c%5c|\d\.\d|localhost|\.[a-z]|::|0x", re.IGNORECASE)
_URL: Final = re.compile(r"(?:([a-z][a-z0-9+.-]*):)?[/\\]{2,}([^\s\"'<>,;/\\]+)", re.IGNORECASE)
# Of a value without a scheme: an address, or a name with a dot.
_BARE: Final = re.compile(
    r"(?<![\w.@/:-])(\[[0-9a-f:.]+\]|localhost|(?:0x[0-9a-f]+|\d+)(?:\.(?:0x[0-9a-f]+|\d+)){3}|[\w-]+(?:\.[\w-]+)*\.[a-z]{2,})"
    r"(?::(\d{1,5}))?(?![\w.@])",
    re.IGNORECASE,
)
_SPLIT: Final = re.compile(r"[@#?]")  # Programs disagree which of the parts is the host, so each may be.
_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_NUMBER: Final = re.compile(r"(?:0x[0-9a-f]+|\d+)\Z", re.IGNORECASE)

Address = IPv4Address | IPv6Address


class NamedHost(msgspec.Struct, frozen=True, gc=False):
    """A host in a request. Private to the node."""

    name: str  # Lower case, without brackets and without a dot at its end.
    address: Address | None  # Where the name is one, in whatever digits.
    port: int  # 0: any.

    def __repr__(self) -> str:
        return "NamedHost(redacted)"


class _HostKey(msgspec.Struct, frozen=True, gc=False):
    """The same by keyed hashes, as it is kept; 0: it is no address."""

    name: int
    address: int
    port: int
    is_unspecified: bool


class Contact(msgspec.Struct, gc=False):
    """A call that a workload made, or a TLS connection. Private to the node."""

    time_ns: int
    name: int  # Keyed hash of that in the Host header, without its port, or in the first message of TLS; 0: none.
    address_key: int  # Keyed hash.
    address: Address
    port: int
    ports: tuple[int, ...]  # That a URL of it may name: behind a Service the program listens on another one.
    ends: tuple[str, int, str, int]  # Client's address and port, server's address and port.
    is_led: bool  # A redirect may have led there.
    is_named: bool = False

    def __repr__(self) -> str:
        return "Contact(redacted)"


class _Naming(msgspec.Struct, frozen=True, gc=False):
    hosts: tuple[_HostKey, ...]
    record: CallRecord
    ends: tuple[str, int, str, int]


class _Workload(msgspec.Struct, gc=False):
    since_ns: int
    contacts: list[Contact]
    namings: list[_Naming]
    known: BoundedDict[tuple[Address, int], bool]
    namers: BoundedDict[tuple[Address, int], set[int]]  # Callers who named an inner end.


class RequestForgery:
    """Mutable state by workload, which is a cgroup. Not thread-safe."""

    def __init__(self, keyed_hash: KeyedHash, account: AttackAccount) -> None:
        self._account = account
        self._hash = keyed_hash.compute
        self._workloads: BoundedDict[int, _Workload] = BoundedDict(WORKLOADS_MAX)
        self.late: list[CallRecord] = []  # Parts of calls that were described before, for their payload: taken away.

    def see_call(self, record: CallRecord, ends: Ends, head: RequestHead, text: str) -> CallRecord:
        """The record of a call, with a payload where it forged a request. `text`: query and body as they came. A call
        of a workload of this node is its contact, too. Cost: 1 us without a sign of a host."""
        time_ns = record.figures.time_unix_ns
        caller = ends.cgroup_id if ends.role is Role.CLIENT else ends.peer_cgroup_id
        if caller and record.figures.calls:
            self._see_contact(caller, self._read_contact(time_ns, ends, head))
        if ends.role is not Role.SERVER or not ends.cgroup_id or not _SIGN.search(text):
            return record
        hosts = tuple(map(self._seal, list_hosts(text)))
        if not hosts:
            return record
        workload = self._find(ends.cgroup_id, time_ns)
        naming = _Naming(hosts, record, _order_ends(ends))
        workload.namings = [*workload.namings[1 - RECENT_MAX :], naming]
        for contact in workload.contacts:
            payload = self._match(workload, naming, contact)
            if payload:
                workload.namings.pop()
                return _set_payload(record, payload)
        return record

    def see_handshake(self, handshake: Handshake) -> None:
        """A TLS connection of a workload of this node, whose call nobody may read."""
        ends = handshake.local_address, handshake.local_port, handshake.remote_address, handshake.remote_port
        ports = handshake.remote_port, _PORTS["https"]
        name = handshake.server_name.rstrip(".").lower()
        if handshake.cgroup_id:
            contact = self._make_contact(handshake.time_unix_ns, name, ports, ends, is_led=False)
            self._see_contact(handshake.cgroup_id, contact)

    def _seal(self, host: NamedHost) -> _HostKey:
        address = 0 if host.address is None else self._hash_address(host.address)
        is_unspecified = host.address is not None and host.address.is_unspecified
        return _HostKey(self._hash_name(host.name), address, host.port, is_unspecified)

    def _hash_name(self, name: str) -> int:
        return self._hash(b"host\n" + name.encode("utf-8", "surrogatepass")) if name else 0

    def _hash_address(self, address: Address) -> int:
        return self._hash(b"address\n" + address.packed)

    def _read_contact(self, time_ns: int, ends: Ends, head: RequestHead) -> Contact | None:
        ordered, host = _order_ends(ends), head.host
        is_led = head.method == "GET" and not any(head.get(name) for name in _FIELDS)
        name, colon, digits = host.rpartition(":")
        has_port = bool(colon) and digits.isdigit() and (":" not in name or name.endswith("]"))
        ports = (ordered[3], int(digits)) if has_port else (ordered[3], *_PORTS.values())
        name = (name if has_port else host).strip("[]").lower()
        return self._make_contact(time_ns, name, ports, ordered, is_led=is_led)

    def _make_contact(
        self, time_ns: int, name: str, ports: tuple[int, ...], ends: tuple[str, int, str, int], *, is_led: bool
    ) -> Contact | None:
        """None where the address is not known, as a capture file may not say."""
        try:
            address = _read_end(ends[2])
        except ValueError:
            return None
        return Contact(
            time_ns=time_ns,
            name=self._hash_name(name),
            address_key=self._hash_address(address),
            address=address,
            port=ends[3],
            ports=ports,
            ends=ends,
            is_led=is_led,
        )

    def _see_contact(self, cgroup_id: int, contact: Contact | None) -> None:
        if contact is None:
            return
        workload = self._find(cgroup_id, contact.time_ns)
        while workload.contacts and contact.time_ns - workload.contacts[0].time_ns > 2 * WAIT_NS:
            self._forget(workload)
        if len(workload.contacts) >= RECENT_MAX:
            self._forget(workload)
        workload.contacts.append(contact)
        contact.is_named = any(
            _is_same(host, contact) and _is_after(contact, naming)
            for naming in workload.namings
            for host in naming.hosts
        )
        for naming in list(workload.namings):
            payload = self._match(workload, naming, contact)
            if payload:
                workload.namings.remove(naming)
                figures = msgspec.structs.replace(
                    naming.record.figures, calls=0, is_final=False, request_bytes=0, response_bytes=0, duration_ns=0,
                    time_to_first_byte_ns=0,
                )  # fmt: skip
                self.late.append(_set_payload(msgspec.structs.replace(naming.record, figures=figures), payload))

    @staticmethod
    def _forget(workload: _Workload) -> None:
        """What no request named is how the workload works."""
        oldest = workload.contacts.pop(0)
        if not oldest.is_named:
            workload.known[oldest.address, oldest.port] = True

    def _match(self, workload: _Workload, naming: _Naming, contact: Contact) -> int:
        """The payload of a naming and a contact; 0 where they have nothing to do with each other, or nothing wrong."""
        if not _is_after(contact, naming):
            return 0
        named = next((host for host in naming.hosts if _is_same(host, contact)), None)
        contact.is_named = contact.is_named or named is not None
        is_metadata = contact.address in _METADATA
        is_led = is_metadata and contact.is_led and not contact.is_named and contact.address not in _WITHOUT_FIELDS
        if named is None and not (is_led and self._has_contacted(workload, naming, contact)):
            return 0
        if not is_metadata and not self._is_odd(workload, naming, contact):
            return 0
        self._account.attacks += not naming.record.contents.payload
        self._account.confirmed += 1
        hashed = self._hash(f"ssrf\n{contact.address}\n{contact.port}".encode()) | 1 << 8
        evidence = AttackEvidence.METADATA_CONTACTED if is_metadata else AttackEvidence.INSIDE_CONTACTED
        return pack_payload(Attack(AttackClass.SSRF, AttackConfidence.HIGH, hashed), evidence)

    @staticmethod
    def _is_odd(workload: _Workload, naming: _Naming, contact: Contact) -> bool:
        """Whether the service called an inner end that it does not call anyway, or for many."""
        end = contact.address, contact.port
        is_learning = contact.time_ns - workload.since_ns < LEARNING_NS
        if is_learning or not is_inside(contact.address) or end in workload.known:
            return False
        record = naming.record
        caller = record.credentials.principal or record.credentials.credential or hash(record.ends.client_address)
        namers = workload.namers.get(end, set())
        if len(namers) < NAMERS_MAX:
            workload.namers[end] = namers | {caller}
            return True
        return caller in namers

    @staticmethod
    def _has_contacted(workload: _Workload, naming: _Naming, after: Contact) -> bool:
        """Whether the last host contacted before, and no longer than LED_NS, is one that the request named."""
        before = [one for one in workload.contacts if 0 <= after.time_ns - one.time_ns <= LED_NS and one is not after]
        last = max(before, key=lambda one: one.time_ns, default=None)
        return last is not None and _is_after(last, naming) and any(_is_same(host, last) for host in naming.hosts)

    def _find(self, cgroup_id: int, time_ns: int) -> _Workload:
        workload = self._workloads.get(cgroup_id)
        if workload is None:
            workload = _Workload(time_ns, [], [], BoundedDict(KNOWN_MAX), BoundedDict(KNOWN_MAX))
        self._workloads.renew(cgroup_id, workload)
        return workload


def is_inside(address: Address) -> bool:
    """Whether no stranger could reach it: loopback, link-local, private and shared addresses."""
    if isinstance(address, IPv4Address) and int(address) >> 32 - _SHARED[1] == _SHARED[0] >> 32 - _SHARED[1]:
        return True
    return address.is_private or address.is_loopback or address.is_link_local or address.is_unspecified


def list_hosts(text: str) -> Iterator[NamedHost]:
    """Hosts in a text that is escaped as it came: of URLs, and values that are a host. At most HOSTS_MAX."""
    found: set[NamedHost] = set()
    # NFKC: clients take other digits and full stops for ASCII.
    plain = normalize("NFKC", unquote(unquote(text[:TEXT_MAX].replace("\\/", "/")))).replace("\u3002", ".")
    for scheme, authority in _URL.findall(plain):
        for part in _SPLIT.split(authority):
            _add(found, part.strip("&"), _PORTS.get(scheme.lower(), 0))
    for name, port in _BARE.findall(plain):
        _add(found, f"{name}:{port}" if port else name, 0)
    yield from found


def _add(found: set[NamedHost], authority: str, default_port: int) -> None:
    name, port = authority.split("&", 1)[0], default_port
    host, colon, digits = name.rpartition(":")
    if colon and digits.isdigit() and len(digits) <= 5 and (":" not in host or host.endswith("]")):
        name, port = host, int(digits)
    name = name.strip("[]").rstrip(".").lower()
    if name and len(found) < HOSTS_MAX:
        found.add(NamedHost(name, read_address(name), port))


def read_address(name: str) -> Address | None:
    """An address in any digits that programs take for one: 127.1, 0x7f.1, 2130706433, 0177.0.0.1, ::ffff:7f00:1."""
    try:
        if ":" in name:
            return _unwrap(IPv6Address(name.partition("%")[0]))
        parts = name.split(".")
        if not 1 <= len(parts) <= 4 or not all(_NUMBER.match(part) for part in parts):
            return None
        numbers = [_read_number(part) for part in parts]
        if any(number > 255 for number in numbers[:-1]):
            return None
        whole = 0
        for number in numbers[:-1]:
            whole = whole << 8 | number
        left = 8 * (5 - len(numbers))
        return IPv4Address(whole << left | numbers[-1]) if numbers[-1] < 1 << left else None
    except ValueError:
        return None


def _unwrap(six: IPv6Address) -> Address:
    """The IPv4 address inside: mapped (RFC 4291), 6to4 (RFC 3056), translated (RFC 6052) or compatible."""
    whole = int(six)
    if six.ipv4_mapped or six.sixtofour:
        return six.ipv4_mapped or six.sixtofour or six
    is_translated = whole >> 32 == int(_TRANSLATED) >> 32
    return IPv4Address(whole & 0xFFFFFFFF) if is_translated or 1 < whole < 1 << 32 else six


def _read_number(digits: str) -> int:
    """As inet_aton: hexadecimal behind `0x`, octal behind `0`."""
    if digits[:2].lower() == "0x":
        return int(digits[2:] or "0", 16)
    return int(digits, 8) if len(digits) > 1 and digits[0] == "0" else int(digits[:11])


def _is_after(contact: Contact, naming: _Naming) -> bool:
    """Whether a contact began soon after a naming, and is not the call itself."""
    return 0 <= contact.time_ns - naming.record.figures.time_unix_ns <= WAIT_NS and contact.ends != naming.ends


def _is_same(host: _HostKey, contact: Contact) -> bool:
    """An unspecified address leads to the host itself."""
    if host.port and host.port not in contact.ports:
        return False
    is_own = host.is_unspecified and contact.address.is_loopback
    return is_own or (host.name == contact.name != 0) or (host.address == contact.address_key != 0)


@lru_cache(maxsize=4_096)
def _read_end(text: str) -> Address:
    return ip_address(text.partition("%")[0])


def _order_ends(ends: Ends) -> tuple[str, int, str, int]:
    """Client's address and port, then the server's."""
    local, remote = (ends.local_address, ends.local_port), (ends.remote_address, ends.remote_port)
    return (*remote, *local) if ends.role is Role.SERVER else (*local, *remote)


def _set_payload(record: CallRecord, payload: int) -> CallRecord:
    return msgspec.structs.replace(record, contents=msgspec.structs.replace(record.contents, payload=payload))
