"""Finds sensitive data and records in the bodies and the head of a call: framing, coding, document, classifier in turn.

This is the one place where body values meet the classifier, and where they end. What cannot be read is counted under a
fixed word. Nothing raises.

`read_head` reads path, query and headers and gives codes of kinds of data. It skips credentials
(`sensor.describe.auth.authentication` reads them) and the addresses that proxies add. A path segment is named by the
one before it, as in `/emails/ada@example.org`.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from functools import partial
from ipaddress import ip_address
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import parse_qsl, unquote

import msgspec

from common.figures import Figure, make_totals
from sensor.core.calls import (
    NOBODY,
    AuthenticationKind,
    BodyFacts,
    BodyFlag,
    Credentials,
    Exchange,
    NamedEnds,
    Origin,
    RawBodies,
)
from sensor.describe.auth.authentication import is_key_header
from sensor.describe.bodies.assignment import FieldBook
from sensor.describe.bodies.decoding import Decoded, Payload, decode, read_payload
from sensor.describe.bodies.documents import EVENTS, Document, is_protobuf, read_document, read_tree
from sensor.describe.bodies.graphql import is_introspection_answered, measure_body, measure_query_string
from sensor.describe.bodies.logins import Login, LoginRequest, LoginResponse, find_login
from sensor.describe.bodies.message_types import REFLECTION_METHODS, MessageTypes
from sensor.describe.bodies.protobuf import read_protobuf
from sensor.describe.bodies.sampling import BodySampler, RecordEstimates, SampleRule
from sensor.describe.bodies.streams import (
    find_calls,
    find_calls_of_stream,
    may_hold_calls,
    parse_cut_call,
    split_envelopes,
)
from sensor.http.bodies import BODY_BYTES_MAX, LAST_BYTES_MAX
from sensor.http.http1.head import RequestHead, read_media_type, read_response_content_type
from sensor.sensitive.document import AskedBook, CustomFinder, Side, classify_field, find_sensitive
from sensor.sensitive.kinds import (
    DATA_CLASSES,
    HEAD_READ,
    PLACE_SHIFT,
    Binary,
    CallFact,
    DataClass,
    DataKind,
    DataPlace,
    make_codes,
)

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
    """Codes of what the head holds (sensor.sensitive.kinds), with HEAD_READ. Never raises. Cost: some 10 us a
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


# Looked at of one document, and values of one field: of each route a body is read every second. A hostile one, whose
# values all show a sign, costs some 30 ms.
NODES_MAX: Final = 4_000
VALUES_MAX: Final = 8
_GRAPHQL_SIGN: Final = re.compile(rb"query[\"=]|persistedQuery")
_GRAPHQL_HEAD: Final = re.compile(rb"graphql|content-encoding", re.IGNORECASE)
_GRAPHQL_TYPES: Final = re.compile(r"application/(?:[\w.+-]*json|graphql|x-www-form-urlencoded)\Z")
_MEDIA_TYPE_BYTES: Final = 128
_CONTENT_TYPE_BYTES: Final = 512  # With its parameters: SOAP 1.2 names its action there.
_WORDS: Final = (
    ("coding_unknown", "Bodies in a content coding that the sensor does not read."),
    ("coding_broken", "Bodies that their content coding does not decode."),
    ("decoded_limit", "Bodies of which only the beginning was read: decoded, they are too long."),
    ("not_its_type", "Bodies that are not what their media type says."),
    ("type_not_read", "Bodies of media types that the sensor does not read."),
)


class BodyCall(msgspec.Struct, frozen=True, gc=False):
    """What the reader gets of a call whose bodies came. Private to the node."""

    route_id: int
    status_code: int
    request_head: bytes
    response_head: bytes
    request_bytes: int  # Heads and bodies as on the wire.
    response_bytes: int
    time_ns: int
    bodies: RawBodies | None
    # Of HTTP/2 instead: both bodies, whose framing the reader of streams has undone, and bytes of the response's head.
    payloads: tuple[Payload, Payload] | None = None
    head_bytes: int = 0
    origin: Origin = NOBODY
    authentication: int = AuthenticationKind.UNKNOWN
    path: str = ""  # Names the types of an RPC's messages.
    is_description: bool = False  # Its path is one under which descriptions of APIs are served.
    method: str = ""
    query: str = ""
    caller: tuple[Credentials, NamedEnds] | None = None
    mcp_version: bytes = b""  # The request's `MCP-Protocol-Version`,
    mcp_session: bytes = b""  # and its `Mcp-Session-Id`.
    host: str = ""  # As the request names it.
    is_of_model: bool = False  # Its path may be one of a model API.

    def __repr__(self) -> str:
        return f"BodyCall(status_code={self.status_code}, redacted)"


class BodyDocument(msgspec.Struct, frozen=True, gc=False):
    """A body as parsed, for what describes it. Private to the node."""

    media_type: str
    content_type: bytes
    tree: object
    is_complete: bool
    calls: Sequence[dict[str, Any]] = ()  # Messages of JSON-RPC that `tree` has in another form.
    messages: Sequence[bytes] = ()  # All of a stream of events, of which `tree` has some.
    cut: bytes = b""  # The last event of a stream of events that was cut, as far as it came.
    has_endpoint_event: bool = False  # It is a stream of MCP's older transport.
    last: bytes = b""  # Its last bytes, at most LAST_BYTES_MAX; of one that was cut those of its end, where these came.

    def __repr__(self) -> str:
        return f"BodyDocument(media_type={self.media_type!r}, redacted)"


class DocumentSink(Protocol):
    """Who learns what bodies look like (sensor/describe/schemas)."""

    def learn_bodies(
        self, call: BodyCall, request: BodyDocument | None, response: BodyDocument | None, data: Collection[int]
    ) -> set[int]:
        """Gives codes of what is odd about the call."""
        ...

    def learn_beginning(self, call: BodyCall, response: BodyDocument) -> None: ...

    def has_operations(self, route_id: int) -> bool: ...


class _Read(msgspec.Struct, frozen=True, gc=False):
    """One body of which something can be reported: its kinds of data where it was read."""

    document: Document | None
    data: frozenset[DataKind]
    is_complete: bool
    seen: BodyDocument


class BodyReader:
    """Reads what is due; estimates the rest. Not thread-safe."""

    def __init__(self, rule: SampleRule, sink: DocumentSink | None = None, custom: CustomFinder | None = None) -> None:
        """`custom`: classes of data that the operator named."""
        self._custom = custom
        self._fields = AskedBook()
        self._writes = FieldBook()
        self._types = MessageTypes()
        self._sampler = BodySampler(rule)
        self._sink = sink
        self._heads = BodySampler(rule)
        self._beginnings = BodySampler(rule)
        self.estimates = RecordEstimates()
        self.read_count = 0  # Bodies classified.
        self.beginning_count = 0  # Streams whose beginning was read before their end.
        self.unread: Counter[str] = Counter()  # Bodies by why they were not.

    def read(self, call: BodyCall) -> BodyFacts | None:
        """Facts of a call whose bodies came. A GraphQL request is measured whether or not it is a sample: one is
        enough to exhaust a service."""
        return _add_codes(self._read_sample(call), _measure_graphql(call))

    def _read_sample(self, call: BodyCall) -> BodyFacts | None:
        # Framing is undone of those alone that are read.
        media_type = _read_response_type(call)
        if not self._sampler.is_due(call.route_id, call.status_code, media_type, call.response_bytes, call.time_ns):
            return self.estimate(call.route_id, call.status_code, call.response_bytes)
        answer = find_payload(call, is_request=False)
        question = find_payload(call, is_request=True)
        request = self._classify(call, question, _read_type(question), is_request=True)
        response = self._classify(call, answer, media_type, is_request=False)
        codes: set[int] = set()
        flags, records = BodyFlag.NONE, 0
        login = _find_login(call, request, response)
        if login.is_login:
            codes.add(DataPlace.CALL << PLACE_SHIFT | CallFact.LOGIN)
        if request is not None and request.document is not None:
            flags |= BodyFlag.REQUEST_READ
            codes |= make_codes(DataPlace.REQUEST_BODY, request.data)
        if response is not None and response.document is not None:
            flags |= BodyFlag.RESPONSE_READ
            codes |= make_codes(DataPlace.RESPONSE_BODY, _name_issued(response.data, login))
            records, known = self._count(call, response.document, is_complete=response.is_complete)
            flags |= known
        if self._sink is not None:
            request_seen, response_seen = (one.seen if one is not None else None for one in (request, response))
            odd = self._sink.learn_bodies(call, request_seen, response_seen, codes)
            codes |= odd
            flags |= BodyFlag.NOTED if odd else BodyFlag.NONE
            if self._sink.has_operations(call.route_id):
                self._sampler.sample_more(call.route_id)
        if request is not None and request.seen.is_complete and is_counted(call.status_code):
            answered = response.seen.tree if response is not None else None
            odd = self._writes.see(call.route_id, call.origin.consumer, request.seen.tree, answered)
            codes |= odd
            flags |= BodyFlag.NOTED if odd else BodyFlag.NONE
        # What was read and holds no list, such as a page for people, is not estimated by the lists of its route.
        if not flags & (BodyFlag.MEASURED | BodyFlag.ESTIMATED | BodyFlag.RESPONSE_READ):
            estimated = self.estimate(call.route_id, call.status_code, call.response_bytes)
            if estimated is not None:
                records, flags = estimated.records, flags | estimated.flags
        return BodyFacts(records, tuple(sorted(codes)), flags) if flags else None

    def estimate(self, route_id: int, status_code: int, response_bytes: int) -> BodyFacts | None:
        """Facts of a call whose bodies were not read, where others of its route were."""
        if not is_counted(status_code):
            return None
        estimate = self.estimates.find(route_id)
        if estimate is None:
            return None
        return BodyFacts(estimate.count(response_bytes), (), BodyFlag.ESTIMATED)

    def read_beginning(self, call: BodyCall) -> None:
        """What a stream says of JSON-RPC that goes on, of sampled streams. Its data and records are counted at its
        end."""
        answer = find_payload(call, is_request=False)
        if answer is None or self._sink is None:
            return
        media_type = _read_type(answer)
        if media_type != EVENTS or not self._beginnings.is_due(call.route_id, 0, "", 0, call.time_ns):
            return
        self.beginning_count += 1
        decoded = decode(answer.data, answer.content_encoding, is_complete=False)
        if not may_hold_calls(decoded.data):
            return
        try:
            document = read_document(decoded.data, media_type, is_complete=False)
        except ValueError:
            return
        if document is not None:
            self._sink.learn_beginning(call, _show(document, media_type, answer, decoded))

    def read_head(
        self, facts: BodyFacts | None, head: RequestHead, route_id: int, exchange: Exchange
    ) -> BodyFacts | None:
        """The facts of a call with what its path, query and headers hold, where those are due."""
        measure = measure_query_string(head.query)
        if measure is not None:
            facts = _add_codes(facts, measure.list_codes())
        if not self._heads.is_due(route_id, 0, "", 0, exchange.figures.time_unix_ns):
            return facts
        codes = read_head(head, exchange.ends.remote_address, is_encrypted=exchange.ends.is_encrypted)
        if facts is None:
            return BodyFacts(0, tuple(sorted(codes)), BodyFlag.HEAD_READ)
        return BodyFacts(facts.records, tuple(sorted(codes.union(facts.data))), facts.flags | BodyFlag.HEAD_READ)

    def figures(self) -> tuple[Figure, ...]:
        """What was read, and what could not be."""
        unread = ((word, text, self.unread[word]) for word, text in _WORDS)
        read = ("read", "Bodies that were classified.", self.read_count)
        begun = (
            "beginnings_read",
            "Streams of events whose beginning was read before their end.",
            self.beginning_count,
        )
        return make_totals((read, begun, *unread), "bodies_")

    def _classify(self, call: BodyCall, payload: Payload | None, media_type: str, *, is_request: bool) -> _Read | None:
        if payload is None or not payload.data:
            return None
        decoded = decode(payload.data, payload.content_encoding, is_complete=payload.is_complete)
        if decoded.fault:
            self.unread[decoded.fault] += 1
        if not decoded.data:
            return None
        try:
            if is_protobuf(media_type):
                document = self._read_protobuf(decoded, media_type, call.path, is_request=is_request)
            else:
                document = read_document(decoded.data, media_type, is_complete=decoded.is_complete)
        except ValueError:
            self.unread["not_its_type"] += 1
            return None
        if document is None:
            self.unread["type_not_read"] += 1
            unseen = Document(None, None, tree=Binary())
            seen = _show(unseen, media_type, payload, decoded)
            return _Read(None, frozenset(), False, seen)
        self.read_count += 1
        found = find_sensitive(
            document.values,
            max_nodes=NODES_MAX,
            # The turns of a conversation have one field, and none of them is like the others.
            max_values=None if call.is_of_model else VALUES_MAX,
            custom=self._custom,
            find_asked=partial(self._fields.find, Side(call.route_id, is_request)),
        )
        data = frozenset(finding.kind for finding in found)
        seen = _show(document, media_type, payload, decoded)
        return _Read(document, data, decoded.is_complete, seen)

    def _read_protobuf(self, decoded: Decoded, media_type: str, path: str, *, is_request: bool) -> Document | None:
        """Raises ValueError where it is not protobuf, or compressed. Descriptions of other messages are kept."""
        if path in REFLECTION_METHODS and not is_request:
            for message in split_envelopes(decoded.data):
                self._types.learn_answer(message)
        tree = read_protobuf(
            decoded.data,
            media_type,
            is_complete=decoded.is_complete,
            types=self._types,
            type_name=self._types.find_type(path, is_request=is_request),
        )
        if tree is None:
            raise ValueError("no message of protobuf")
        return read_tree(tree)

    def _count(self, call: BodyCall, document: Document, *, is_complete: bool) -> tuple[int, BodyFlag]:
        """Records returned; of a body that was cut, as many as the rest would hold at this rate."""
        records = document.records
        if records is None or not is_counted(call.status_code):
            return 0, BodyFlag.NONE
        known = BodyFlag.MEASURED
        head_bytes = call.head_bytes or len(_find_head(call))
        body_bytes = call.response_bytes - head_bytes
        read_bytes = len(call.payloads[1].data if call.payloads else call.bodies.response if call.bodies else b"")
        if not is_complete:
            known = BodyFlag.ESTIMATED
            if document.is_list and read_bytes:
                records = round(records * max(1.0, body_bytes / read_bytes))
        self.estimates.learn(
            call.route_id,
            records=records,
            response_bytes=call.response_bytes,
            head_bytes=head_bytes,
            is_list=document.is_list,
        )
        return records, known


class Calls(NamedTuple):
    """Messages of JSON-RPC in a document, as they are; `cut`: the last one of a document that was cut; `is_broken`: one
    that may be another does not parse."""

    told: list[dict[str, Any]]
    cut: dict[str, Any] | None = None
    is_broken: bool = False


def list_calls(document: BodyDocument) -> Calls:
    """All that a document has. Cost: some 60 us of a stream of 64 KiB without any."""
    if document.messages or document.cut:
        cut = parse_cut_call(document.cut) if document.cut else None
        told, is_broken = find_calls_of_stream(document.messages)
        return Calls(told, cut, is_broken)
    if document.is_complete:
        return Calls(list(document.calls) or find_calls(document.tree))
    tree = document.tree
    if isinstance(tree, list):
        last = tree[-1] if tree else None
        return Calls(find_calls(tree[:-1]), last if isinstance(last, dict) else None)
    return Calls([], tree if isinstance(tree, dict) else None)


def _show(document: Document, media_type: str, payload: Payload, decoded: Decoded) -> BodyDocument:
    """What others learn from."""
    return BodyDocument(
        media_type,
        payload.content_type[:_CONTENT_TYPE_BYTES],
        document.tree,
        decoded.is_complete,
        document.calls,
        document.messages,
        document.cut,
        document.has_endpoint_event,
        _find_last(payload, decoded),
    )


def _find_last(payload: Payload, decoded: Decoded) -> bytes:
    """The end of a body, where it is known."""
    if payload.last and not decoded.is_complete:
        return b"" if payload.content_encoding.lower() not in (b"", b"identity") else payload.last[-LAST_BYTES_MAX:]
    # Of a stream that its client ended all that was sent may be here.
    is_all = decoded.is_complete or len(payload.data) < BODY_BYTES_MAX
    return decoded.data[-LAST_BYTES_MAX:] if is_all else b""


def _measure_graphql(call: BodyCall) -> set[int]:
    """Codes of what a GraphQL request asks for; none of other requests, and of ordinary ones. Cost: 1 us of others."""
    raw = call.payloads[0].data if call.payloads else call.bodies.request if call.bodies is not None else b""
    # In the clear: the field of a document, of a persisted one, and the media type or path of a bare one.
    if not _GRAPHQL_SIGN.search(raw) and not _GRAPHQL_HEAD.search(call.request_head) and not call.payloads:
        return set()
    question = find_payload(call, is_request=True)
    media_type = _read_type(question)
    if question is None or not _GRAPHQL_TYPES.match(media_type):
        return set()
    body = question.data
    if question.content_encoding:
        body = decode(body, question.content_encoding, is_complete=question.is_complete).data
    measure = measure_body(body, media_type)
    codes = measure.list_codes() if measure is not None else set()
    if measure is not None and measure.is_introspection and is_counted(call.status_code):
        answer = find_payload(call, is_request=False)
        if answer is not None and is_introspection_answered(
            decode(answer.data, answer.content_encoding, is_complete=answer.is_complete).data
        ):
            codes.add(DataPlace.CALL << PLACE_SHIFT | CallFact.INTROSPECTION_SERVED)
    return codes


def _add_codes(facts: BodyFacts | None, codes: set[int]) -> BodyFacts | None:
    if not codes:
        return facts
    if facts is None:
        return BodyFacts(0, tuple(sorted(codes)), BodyFlag.NOTED)
    return BodyFacts(facts.records, tuple(sorted(codes.union(facts.data))), facts.flags | BodyFlag.NOTED)


def _find_login(call: BodyCall, request: _Read | None, response: _Read | None) -> Login:
    """Whether a call whose bodies were read is a login."""
    asked = request.document if request is not None else None
    told = response.document if response is not None else None
    question = LoginRequest(call.method, call.query, call.authentication, _find_values(asked))
    data = response.data if response is not None else frozenset()
    records = 0 if told is None or told.records is None else told.records
    answer = LoginResponse(call.status_code, _find_head(call), _find_values(told), data, records)
    return find_login(question, answer)


def _find_values(document: Document | None) -> object:
    """All that was read of a body; of markup what has a name."""
    if document is None:
        return None
    return document.tree if isinstance(document.tree, dict | list) else document.values


def _name_issued(data: frozenset[DataKind], login: Login) -> frozenset[DataKind]:
    """The kinds of a response, where what it calls a password may be a token that it issued."""
    return (data - {DataKind.PASSWORD}) | {DataKind.ACCESS_TOKEN} if login.has_issued_password else data


def find_payload(call: BodyCall, *, is_request: bool) -> Payload | None:
    """One body of a call, its framing undone; None where none came."""
    if call.payloads is not None:
        return call.payloads[not is_request]
    bodies = call.bodies
    if bodies is None:
        return None
    if is_request:
        return _unframe(call.request_head, bodies.request, call.request_bytes, bodies, is_request=True)
    return _unframe(_find_head(call), bodies.response, call.response_bytes, bodies, is_request=False)


def _find_head(call: BodyCall) -> bytes:
    """Of a response of HTTP/1."""
    return call.response_head or (call.bodies.response_head if call.bodies is not None else b"")


def _read_response_type(call: BodyCall) -> str:
    if call.payloads is not None:
        return _read_type(call.payloads[1])
    return read_response_content_type(_find_head(call))


def _unframe(head: bytes, raw: bytes, wire_bytes: int, bodies: RawBodies, *, is_request: bool) -> Payload | None:
    if not raw or not head:
        return None
    whole = bodies.whole
    is_whole = len(head) + len(raw) >= wire_bytes if whole is None else whole[not is_request]
    last = b"" if is_request else bodies.response_last
    return read_payload(head, raw, is_request=is_request, is_whole=is_whole, is_unframed=whole is not None, last=last)


def is_counted(status_code: int) -> bool:
    """Only what was served returns records."""
    return 200 <= status_code < 300


def _read_type(payload: Payload | None) -> str:
    return "" if payload is None else read_media_type(payload.content_type[:_MEDIA_TYPE_BYTES])
