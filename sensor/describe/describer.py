"""Turns an exchange into a call record: everything that the sensor may report of one call, and nothing else.

This is the only module that sees head bytes and identity together. It takes an `Exchange` of HTTP/1 or a
`StreamExchange` of HTTP/2. It gives a `CallRecord`, or `Undescribed` with the reason why there is none. It never raises
on bytes.

Names of client software: a User-Agent is whatever a client writes, and may hold the name of a person or a company. So
only products of a public list leave the node as words (agents in the documentation of OpenTelemetry and of HTTP
libraries). Of all others, and of the order of header fields, only a hash under the installation key leaves it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from common.consumer_order import CONSUMER_ORDER, ConsumerColumn
from sensor.core.addresses import find_network
from sensor.core.calls import (
    STATUS_NOT_READ,
    AuthenticationKind,
    CallFigures,
    CallRecord,
    CallTarget,
    Credentials,
    Ends,
    Exchange,
    Handshake,
    Hop,
    NamedEnds,
    Origin,
    PrincipalKind,
    Role,
    Service,
)
from sensor.core.keyed import KeyedHash
from sensor.describe.attacks.reader import AttackReader
from sensor.describe.attacks.ssrf import RequestForgery
from sensor.describe.auth.principal import Principals
from sensor.describe.bodies.reader import BodyReader
from sensor.describe.bodies.sampling import Estimate
from sensor.describe.client_address import ClientAddresses, RemoteServices
from sensor.describe.contents import ContentReader
from sensor.describe.kinds import CallFacts, read_exchange, read_stream
from sensor.describe.objects import fold_objects
from sensor.describe.schemas.book import SchemaBook
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
        "guzzlehttp", "hey", "httpie", "insomnia", "jakarta", "java", "java-http-client", "k6", "ktor", "kube-probe",
        "lua-resty-http", "mozilla", "node", "node-fetch", "okhttp", "opera", "postmanruntime", "powershell",
        "prometheus", "python-httpx", "python-requests", "python-urllib", "reqwest", "rest-client", "restsharp", "ruby",
        "scrapy", "slackbot", "sqlmap", "swagger-codegen", "symfony", "undici", "vegeta", "vertx", "wget", "wrk",
    )
)  # fmt: skip
_NAMES_MAX: Final = 4_096  # Sequences of marks whose names are kept; dropped whole when full.
_HASH_BITS: Final = 32
_SEPARATOR: Final = b"\n"


class SoftwareNames:
    """Names under one installation key. Not thread-safe."""

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


# Methods of the IANA registry are always reported. Of others, which clients choose, so many are, then `_OTHER`: the
# OpenTelemetry name for an unknown http.request.method.
MAX_CUSTOM_METHODS: Final = 50
OTHER_METHOD: Final = "_OTHER"
# IANA HTTP Method Registry, November 2025, and PURGE, which every cache takes.
_REGISTERED: Final = frozenset(
    (
        "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "ACL", "BASELINE-CONTROL",
        "BIND", "CHECKIN", "CHECKOUT", "COPY", "LABEL", "LINK", "LOCK", "MERGE", "MKACTIVITY", "MKCALENDAR", "MKCOL",
        "MKREDIRECTREF", "MKWORKSPACE", "MOVE", "ORDERPATCH", "PRI", "PROPFIND", "PROPPATCH", "QUERY", "REBIND",
        "REPORT", "SEARCH", "UNBIND", "UNCHECKOUT", "UNLINK", "UNLOCK", "UPDATE", "UPDATEREDIRECTREF",
        "VERSION-CONTROL", "PURGE",
    )
)  # fmt: skip
# Of a head in which no credential was seen, and of which parts could not be.
_NO_CREDENTIAL: Final = (AuthenticationKind.NONE, AuthenticationKind.POSSIBLE_CREDENTIAL)
_UNSEEN: Final = Credentials(AuthenticationKind.UNKNOWN, 0, PrincipalKind.UNSPECIFIED, 0, False)


class Identity(Protocol):
    """Who is at each end of a socket: `sensor.enrich.identity` on a node, `sensor.capture.files.identity` of a
    capture file."""

    def server(self, cgroup_id: int, local_port: int, local_address: str) -> tuple[Service, Hop]:
        """The service that answers at a local end, and whether it answers itself or passes the call on."""
        ...

    def client_workload(
        self, peer_cgroup_id: int, remote_address: str, remote_port: int, server_cgroup_id: int = 0
    ) -> str:
        """The workload of a client on this node; empty where it is elsewhere or unknown, and where the client is a
        proxy that passes on the calls of others to its own Pod, `server_cgroup_id`."""
        ...

    def address_workload(self, address: str, first_ns: int, last_ns: int) -> str:
        """The same of a client without a cgroup, by who held its address in that time (unix ns)."""
        ...


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

    def __init__(
        self,
        templater: Templater,
        identity: Identity,
        keyed_hash: KeyedHash,
        settings: DescribeSettings,
        bodies: BodyReader | None = None,
        attacks: AttackReader | None = None,
        schemas: SchemaBook | None = None,
        forgery: RequestForgery | None = None,
    ) -> None:
        """Without `bodies`, `attacks` or `schemas` nothing is reported of bodies, of attacks or of parameters, without
        `forgery` nothing of calls that a request made a service make."""
        self._forgery = forgery
        self._schemas = schemas
        self._contents = ContentReader(bodies, attacks)
        self._templater = templater
        self._identity = identity
        self._hash = keyed_hash.compute
        self._principals = Principals(keyed_hash)
        self._software = SoftwareNames(keyed_hash)
        self.addresses = ClientAddresses(settings.trusted_networks)
        self._find_consumer = _make_consumer_finder(CONSUMER_ORDER)
        self._methods: set[str] = set()
        self.remotes = RemoteServices(settings.cluster)

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
        facts = read_stream(stream.exchange.ends.connection, call, request)
        return self._describe_head(stream.exchange, request.head, call.response_content_type, facts, call)

    def _describe_head(
        self,
        exchange: Exchange,
        head: RequestHead,
        response_content_type: str,
        facts: CallFacts,
        stream: StreamCall | None,
    ) -> CallRecord:
        figures = _correct_figures(exchange.figures)
        service, ends = self._name_ends(exchange, head)
        credentials = self._principals.read(head)
        if (facts.is_request_unknown or head.is_last_header_cut) and credentials.authentication in _NO_CREDENTIAL:
            credentials = _UNSEEN
        consumer = self._find_consumer(
            credentials.principal, credentials.credential, ends.client_address, ends.client_workload
        )
        origin = _find_origin(consumer, credentials, ends, exchange.ends)
        target = self._find_target(exchange, head, facts, service, figures.status_code, origin, credentials)
        contents = self._contents.read(
            exchange, head, stream, target.route.route_id, origin, (credentials, ends), response_content_type
        )
        record = CallRecord(figures, ends, credentials, target, facts.protocol, contents)
        if self._forgery is None:
            return record
        text = self._contents.read_request(exchange, head, stream)
        return self._forgery.see_call(record, exchange.ends, head, text)

    def _find_target(
        self,
        exchange: Exchange,
        head: RequestHead,
        facts: CallFacts,
        service: Service,
        status_code: int,
        origin: Origin,
        credentials: Credentials,
    ) -> CallTarget:
        """Route and object; the schemas learn the head under that route."""
        figures = exchange.figures
        method = head.method if head.method in _REGISTERED else self._name_method(head.method)
        outcome, time_ns = find_outcome(status_code, facts.protocol.rpc_status), figures.time_unix_ns
        if facts.unknown:
            target = self._templater.route_unknown(service, head.host, method, facts.unknown, outcome, origin, time_ns)
        else:
            target = self._templater.route(
                service, head.host, method, head.path, outcome, origin, time_ns, facts.naming
            )
            if self._schemas is not None and figures.is_final:
                self._schemas.learn_head(
                    target.route.route_id,
                    figures.status_code,
                    head,
                    origin,
                    time_ns,
                    credentials.authentication,
                )
        return fold_objects(head.query, target, self._hash) if head.query else target

    def see_handshake(self, handshake: Handshake) -> None:
        """A TLS connection that a workload of this node opened; `take_late` has what it shows. Never raises."""
        if self._forgery is not None:
            self._forgery.see_handshake(handshake)

    def take_late(self) -> list[CallRecord]:
        """Parts of calls described before, of which something was found out since."""
        if self._forgery is None or not self._forgery.late:
            return []
        late, self._forgery.late = self._forgery.late, []
        return late

    def identify(self, head: RequestHead) -> Credentials:
        """Who presents this head."""
        return self._principals.read(head)

    def find_estimate(self, route_id: int) -> Estimate | None:
        """How the records of a route's responses follow from their size, where bodies of it were read."""
        return self._contents.find_estimate(route_id)

    def _name_ends(self, exchange: Exchange, head: RequestHead) -> tuple[Service, NamedEnds]:
        """The service, and who called it, by the role of the socket seen."""
        seen, identity = exchange.ends, self._identity
        if seen.role is Role.SERVER:
            service, hop = identity.server(seen.cgroup_id, seen.local_port, seen.local_address)
            client_address = self.addresses.find(head, seen.remote_address)
            if seen.peer_cgroup_id:
                workload = identity.client_workload(
                    seen.peer_cgroup_id, seen.remote_address, seen.remote_port, seen.cgroup_id
                )
            else:
                time_ns = exchange.figures.time_unix_ns
                workload = identity.address_workload(seen.remote_address, time_ns, time_ns)
        else:
            service, hop = self.remotes.name(seen.remote_address, seen.remote_port), Hop.UNSPECIFIED
            client_address = seen.local_address
            workload = identity.client_workload(seen.cgroup_id, client_address, seen.local_port)
        software = self._software.name(head.marks)
        return service, NamedEnds(seen.role, hop, client_address, workload, software, head.version, seen.is_encrypted)

    def _name_method(self, method: str) -> str:
        """Of a method that is not registered."""
        if method in self._methods:
            return method
        if len(self._methods) < MAX_CUSTOM_METHODS:
            self._methods.add(method)
            return method
        return OTHER_METHOD


def _correct_figures(figures: CallFigures) -> CallFigures:
    """Nobody knows the status of a call whose answer was lost to the sensor, or whether it was aborted."""
    if figures.status_code or not figures.is_lossy:
        return figures
    return msgspec.structs.replace(figures, status_code=STATUS_NOT_READ, is_aborted=False)


def _find_origin(consumer: int, credentials: Credentials, ends: NamedEnds, seen: Ends) -> Origin:
    """Who called. A proxy's workload says nothing of a client that the proxy names."""
    peer = seen.remote_address if seen.role is Role.SERVER else seen.local_address
    workload = ends.client_workload if ends.client_address == peer else ""
    network = hash(workload or find_network(ends.client_address)) if workload or ends.client_address else 0
    return Origin(consumer, network, credentials.principal or credentials.credential or network)


def _make_consumer_finder(order: tuple[ConsumerColumn, ...]) -> Callable[[int, int, str, str], int]:
    """A function (principal, credential, client address, client workload) -> number of the consumer on this node."""
    places = [CONSUMER_ORDER.index(column) for column in order]

    def find(*columns: int | str) -> int:
        for place in places:
            value = columns[place]
            if value:
                return hash(value)
        return 0

    return find
