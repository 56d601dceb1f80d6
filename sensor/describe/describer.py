"""Turns an exchange into a call record: everything that the sensor may report of one call, and nothing else.

This is the only module that sees head bytes and identity together. It takes an `Exchange` of HTTP/1 or a
`StreamExchange` of HTTP/2. It gives a `CallRecord`, or `Undescribed` with the reason why there is none. It never raises
on bytes.

Names of client software: a User-Agent is whatever a client writes, and may hold the name of a person or a company. So
only products of a public list leave the node as words (agents in the documentation of OpenTelemetry and of HTTP
libraries). Of all others, and of the order of header fields, only a hash under the installation key leaves it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from common.settings import CONSUMER_ORDER, ConsumerColumn
from sensor.core.calls import (
    STATUS_NOT_READ,
    AuthenticationKind,
    CallRecord,
    Exchange,
    Hop,
    Role,
    Service,
    WorkloadKind,
)
from sensor.core.keyed import KeyedHash
from sensor.describe.attacks.reader import AttackReader
from sensor.describe.auth.principal import Credentials, Principals
from sensor.describe.bodies.reader import BodyReader
from sensor.describe.bodies.sampling import Estimate
from sensor.describe.client_address import ClientAddresses
from sensor.describe.contents import ContentReader, make_body_call
from sensor.describe.kinds import CallFacts, read_exchange, read_stream
from sensor.describe.objects import fold_objects
from sensor.http.grpc import find_outcome
from sensor.http.http1.head import AGENT, Malformed, RequestHead, parse_request_head, read_response_content_type
from sensor.http.http2.exchange import StreamExchange
from sensor.http.http2.streams import StreamCall
from sensor.routes.templating import Templater

# First products of User-Agent as the programs and libraries write them by default.
PRODUCTS: Final = frozenset(
    (
        "aiohttp", "alamofire", "apache-httpclient", "apachebench", "axios", "bruno", "cfnetwork", "curl", "dalvik",
        "dart", "deno", "elasticsearch", "envoy", "faraday", "ghz", "git", "go-http-client", "go-resty", "got",
        "grpc-c++", "grpc-dotnet", "grpc-go", "grpc-java-netty", "grpc-node", "grpc-node-js", "grpc-python",
        "guzzlehttp", "hey", "httpie", "insomnia", "jakarta", "java", "java-http-client", "k6", "ktor",
        "kube-probe", "lua-resty-http", "mozilla", "node", "node-fetch", "okhttp", "opera", "postmanruntime",
        "powershell", "prometheus", "python-httpx", "python-requests", "python-urllib", "reqwest", "rest-client",
        "restsharp", "ruby", "scrapy", "slackbot", "sqlmap", "swagger-codegen", "symfony", "undici", "vegeta",
        "vertx", "wget", "wrk",
    )
)  # fmt: skip
_NAMES_MAX: Final = 4_096  # Sequences of marks whose names are kept; dropped whole when full.
_HASH_BITS: Final = 32
_SEPARATOR: Final = b"\n"


class SoftwareNames:
    """Names under one installation key. Not thread-safe."""

    __slots__ = ("_hash", "_names")

    def __init__(self, keyed_hash: KeyedHash) -> None:
        self._hash = keyed_hash.compute
        self._names: dict[tuple[bytes, ...], str] = {}

    def name(self, marks: tuple[bytes, ...]) -> str:
        """`curl 3f9a2c11`, or the hash alone; empty where there are no marks, or nobody knows them. Cost: .1 us."""
        if not marks:
            return ""
        found = self._names.get(marks)
        if found is None:
            if len(self._names) >= _NAMES_MAX:
                self._names.clear()
            found = self._names[marks] = self._make(marks)
        return found

    def _make(self, marks: tuple[bytes, ...]) -> str:
        hashed = f"{self._hash(_SEPARATOR.join((b'software', *marks))) >> 64 - _HASH_BITS:08x}"
        agents = [mark.removeprefix(AGENT + b" ") for mark in marks if mark.startswith(AGENT)]
        product = agents[0].decode("latin-1").lower() if agents else ""
        return f"{product} {hashed}" if product in PRODUCTS else hashed


# Methods of the IANA registry are always told; of others (the client chooses them) the first so many, then `_OTHER`,
# which is the OpenTelemetry name for an unknown http.request.method.
MAX_CUSTOM_METHODS: Final = 50
OTHER_METHOD: Final = "_OTHER"
# IANA HTTP Method Registry, November 2025, and PURGE, which every cache takes.
_REGISTERED: Final = frozenset(
    (
        "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "ACL", "BASELINE-CONTROL",
        "BIND", "CHECKIN",
        "CHECKOUT", "COPY", "LABEL", "LINK", "LOCK", "MERGE", "MKACTIVITY", "MKCALENDAR", "MKCOL", "MKREDIRECTREF",
        "MKWORKSPACE", "MOVE",
        "ORDERPATCH", "PRI", "PROPFIND", "PROPPATCH", "QUERY", "REBIND", "REPORT", "SEARCH", "UNBIND", "UNCHECKOUT",
        "UNLINK", "UNLOCK",
        "UPDATE", "UPDATEREDIRECTREF", "VERSION-CONTROL", "PURGE",
    )
)  # fmt: skip
# Remote ends named; dropped whole when full.
_REMOTE_CACHE_ENTRIES: Final = 8_192


class Identity(Protocol):
    """Who is at each end of a socket of this node; implemented by `sensor.enrich`."""

    def server(self, cgroup_id: int, local_port: int, local_address: str) -> tuple[Service, Hop]:
        """The service that answers at a local end, and whether it answers itself or passes the call on."""
        ...

    def client_workload(self, peer_cgroup_id: int, remote_address: str, remote_port: int) -> str:
        """The workload of a client on this node; empty where it is elsewhere or unknown."""
        ...

    def address_workload(self, address: str, first_ns: int, last_ns: int) -> str:
        """The same of a client without a cgroup, by who held its address in that time (unix ns)."""
        ...


class HeadSink(Protocol):
    """Who learns what parameters requests have (sensor/describe/schemas)."""

    def learn_head(
        self,
        route_id: int,
        status_code: int,
        head: RequestHead,
        consumer: int,
        time_unix_ns: int,
        authentication: int = 0,
    ) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeSettings:
    """What an operator may choose."""

    cluster: str = ""
    # Networks of proxies whose forwarding headers count. Empty: none do, and the client address is the peer's.
    trusted_networks: tuple[str, ...] = ()


class Undescribed(msgspec.Struct, frozen=True):
    """A call that is none of HTTP; `reason` is a fixed word for the stage's counters."""

    reason: str


class Describer:
    """Describes the calls of one sensor. Not thread-safe."""

    __slots__ = (
        "_addresses",
        "_contents",
        "_find_consumer",
        "_hash",
        "_identity",
        "_methods",
        "_principals",
        "_remotes",
        "_schemas",
        "_settings",
        "_software",
        "_templater",
    )

    def __init__(
        self,
        templater: Templater,
        identity: Identity,
        keyed_hash: KeyedHash,
        settings: DescribeSettings,
        bodies: BodyReader | None = None,
        attacks: AttackReader | None = None,
        schemas: HeadSink | None = None,
    ) -> None:
        """Without `bodies` nothing is told of bodies, without `attacks` nothing of attacks, without `schemas` nothing
        of parameters."""
        self._schemas = schemas
        self._contents = ContentReader(bodies, attacks)
        self._templater = templater
        self._identity = identity
        self._hash = keyed_hash.compute
        self._principals = Principals(keyed_hash)
        self._software = SoftwareNames(keyed_hash)
        self._settings = settings
        self._addresses = ClientAddresses(settings.trusted_networks)
        self._find_consumer = _make_consumer_finder(CONSUMER_ORDER)
        self._methods: set[str] = set()
        self._remotes: dict[tuple[str, int], Service] = {}

    def set_consumer_order(self, order: tuple[ConsumerColumn, ...]) -> None:
        """The consumer of a call is the first of these columns that is known."""
        self._find_consumer = _make_consumer_finder(order)

    def describe(self, exchange: Exchange | StreamExchange) -> CallRecord | Undescribed:
        """The record of one call, or why there is none. Cost: scripts/bench describe."""
        if type(exchange) is StreamExchange:
            return self._describe_stream(exchange)
        assert isinstance(exchange, Exchange)
        head = parse_request_head(exchange.request_head, exchange.is_request_head_truncated)
        if isinstance(head, Malformed):
            return Undescribed(f"request_{head.reason}")
        response_content_type = read_response_content_type(exchange.response_head)
        facts = read_exchange(exchange, head, response_content_type)
        return self._describe_head(exchange, head, response_content_type, facts, None)

    def _describe_stream(self, stream: StreamExchange) -> CallRecord | Undescribed:
        """The record of a call of HTTP/2, whose heads were read before."""
        call = stream.call
        request = call.request
        if isinstance(request, Malformed):
            return Undescribed(f"request_{request.reason}")
        facts = read_stream(stream.exchange.connection, call, request)
        return self._describe_head(stream.exchange, request.head, call.response_content_type, facts, call)

    def _describe_head(
        self,
        exchange: Exchange,
        head: RequestHead,
        response_content_type: str,
        facts: CallFacts,
        stream: StreamCall | None,
    ) -> CallRecord:
        service, hop, client_address, client_workload = self._name_ends(exchange, head)
        status_code, is_aborted = _find_status(exchange)
        credentials = self._principals.read(head)
        method = head.method if head.method in _REGISTERED else self._name_method(head.method)
        outcome = find_outcome(status_code, facts.rpc_status)
        consumer = self._find_consumer(credentials.principal, credentials.credential, client_address, client_workload)
        authentication = credentials.kinds or _find_unseen(head, facts)
        if facts.unknown:
            templated = self._templater.route_unknown(service, head.host, method, facts.unknown, outcome)
        else:
            templated = self._templater.route(
                service, head.host, method, head.path, outcome, consumer, naming=facts.naming
            )
            if self._schemas is not None and exchange.is_final:
                self._schemas.learn_head(
                    templated.route.route_id,
                    exchange.status_code,
                    head,
                    consumer,
                    exchange.time_unix_ns,
                    authentication,
                )
        object_hash, number = templated.object_hash, templated.object_number
        if head.query:
            object_hash, number = fold_objects(head.query, object_hash, number, self._hash)
        call = make_body_call(exchange, stream, templated.route.route_id, consumer, authentication, head.path)
        # By position: 0.2 us instead of 4. The order is that of sensor.core.calls, held by
        # tests/sensor/describe/test_describe.py.
        return CallRecord(
            exchange.time_unix_ns,
            templated.route,
            exchange.role,
            hop,
            status_code,
            head.version,
            credentials.principal,
            credentials.principal_kind,
            credentials.credential,
            credentials.is_truncated,
            client_address,
            client_workload,
            authentication,
            head.content_type,
            response_content_type,
            exchange.request_bytes,
            exchange.response_bytes,
            exchange.time_to_first_byte_ns,
            exchange.duration_ns,
            exchange.calls,
            exchange.is_final,
            is_aborted,
            exchange.is_lossy,
            object_hash,
            number,
            exchange.is_ambiguous,
            facts.kind,
            facts.rpc_status,
            facts.request_messages,
            facts.response_messages,
            facts.is_stream,
            facts.has_unknown_fields,
            facts.is_inferred,
            self._contents.read_data(exchange, head, call),
            self._contents.read_attack(exchange, head, call, consumer, response_content_type),
            self._software.name(head.marks),
            exchange.is_encrypted,
        )

    def identify(self, head: RequestHead) -> Credentials:
        """Who presents this head."""
        return self._principals.read(head)

    def find_estimate(self, route_id: int) -> Estimate | None:
        """How the records of a route's responses follow from their size, where bodies of it were read."""
        return self._contents.find_estimate(route_id)

    def read_hops(self, request_head: bytes) -> tuple[bytes, ...]:
        """What the forwarding headers of a head say, for `find_client`; empty without trusted networks."""
        if not self._settings.trusted_networks:
            return ()
        head = parse_request_head(request_head, False)
        return () if isinstance(head, Malformed) else self._addresses.read_hops(head)

    def find_client(self, hops: Sequence[bytes], peer: str) -> str:
        """Address of the client of a request with these hops, from this peer."""
        return self._addresses.find_by_hops(hops, peer)

    def _name_ends(self, exchange: Exchange, head: RequestHead) -> tuple[Service, Hop, str, str]:
        """Service, hop, client address and client workload, by the role of the socket seen."""
        if exchange.role is Role.SERVER:
            identity, remote_address = self._identity, exchange.remote_address
            service, hop = identity.server(exchange.cgroup_id, exchange.local_port, exchange.local_address)
            peer, time_ns = exchange.peer_cgroup_id, exchange.time_unix_ns
            return (
                service,
                hop,
                self._addresses.find(head, remote_address),
                identity.client_workload(peer, remote_address, exchange.remote_port)
                if peer
                else identity.address_workload(remote_address, time_ns, time_ns),
            )
        workload = self._identity.client_workload(exchange.cgroup_id, exchange.local_address, exchange.local_port)
        return (
            self.name_remote(exchange.remote_address, exchange.remote_port),
            Hop.UNSPECIFIED,
            exchange.local_address,
            workload,
        )

    def name_remote(self, address: str, port: int) -> Service:
        """The service at a remote end, by the only name this node knows: its address."""
        service = self._remotes.get((address, port))
        if service is None:
            if len(self._remotes) >= _REMOTE_CACHE_ENTRIES:
                self._remotes.clear()
            service = self._remotes[address, port] = Service(
                cluster=self._settings.cluster,
                namespace="",
                workload=address,
                workload_kind=WorkloadKind.UNSPECIFIED,
                host_name="",
                port=port,
            )
        return service

    def _name_method(self, method: str) -> str:
        """Of a method that is not registered."""
        if method in self._methods:
            return method
        if len(self._methods) < MAX_CUSTOM_METHODS:
            self._methods.add(method)
            return method
        return OTHER_METHOD


def _find_status(exchange: Exchange) -> tuple[int, bool]:
    """Its status code, and whether it was aborted: of a call whose answer was lost to us nobody knows."""
    if exchange.is_lossy and not exchange.status_code:
        return STATUS_NOT_READ, False
    return exchange.status_code, exchange.is_aborted


def _find_unseen(head: RequestHead, facts: CallFacts) -> AuthenticationKind:
    """Of a head in which no credential was seen: whether there may have been one."""
    is_unseen = facts.is_request_unknown or head.is_last_header_cut
    return AuthenticationKind.UNKNOWN if is_unseen else AuthenticationKind.NONE


def _make_consumer_finder(order: tuple[ConsumerColumn, ...]) -> Callable[[int, int, str, str], int]:
    """A function (principal, credential, client address, client workload) -> number that tells consumers of this node
    apart."""
    places = [CONSUMER_ORDER.index(column) for column in order]

    def find(*columns: int | str) -> int:
        for place in places:
            value = columns[place]
            if value:
                return hash(value)
        return 0

    return find
