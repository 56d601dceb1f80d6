"""Collects what the routes of a node look like: sampled heads and documents in, the newest `Schema` of each part out.

A schema is one part of a route: query, headers, cookies, operations, or a body of one status class and media type. Its
counts only grow while it is in the book. So a state replaces every earlier one of the same (process, generation) and
may be sent any number of times.

When the book is full, the oldest schema is dropped. When its part is seen again, it begins a new generation, whose
counts the collector adds to those of the earlier ones.
"""

import enum
import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl

import msgspec

from common.figures import Figure, list_figures, make_gauges, total
from sensor.core.calls import Origin
from sensor.core.keyed import KeyedHash
from sensor.describe.auth.tokens import TokenFact, find_token_facts
from sensor.describe.bodies.reader import BodyCall, BodyDocument
from sensor.describe.bodies.sampling import BodySampler, SampleRule
from sensor.describe.schemas.agents import AgentWatch
from sensor.describe.schemas.descriptions import write_outline
from sensor.describe.schemas.mcp import McpNames, McpServer, McpTally, hash_use
from sensor.describe.schemas.mcp_calls import McpCall, McpItemKind, read_mcp_call
from sensor.describe.schemas.mcp_uses import McpUse, McpUses
from sensor.describe.schemas.model_calls import ModelCall, read_model_call
from sensor.describe.schemas.model_uses import ModelRoutes, ModelUse, ModelUses, has_data_of_requests
from sensor.describe.schemas.operations import Operation, find_in_document, find_in_head, find_told, has_failed
from sensor.describe.schemas.tally import OperationCount, Sample, SampleWeights, Tally
from sensor.describe.schemas.tree import Field, Tree, judge_name
from sensor.describe.schemas.uses import Uses
from sensor.http.http1.head import RequestHead
from sensor.routes.schema_names import judge_schema_name
from sensor.routes.shared_use import Telling
from sensor.routes.vocabulary import Vocabulary
from sensor.sensitive.kinds import Text

Parameters = dict[str, object]
_PAIRS_MAX: Final = 64  # Of one query or cookie header.
# Read by everybody between client and server, or reported elsewhere (authentication, address, media type).
_COMMON_HEADERS: Final = frozenset(
    (
        *(b"host", b"cookie", b"authorization", b"proxy-authorization", b"content-type", b"transfer-encoding"),
        *(b"forwarded", b"via", b"upgrade", b"http2-settings", b"proxy-connection", b"sec-websocket-key", b"baggage"),
        *(b"sec-websocket-version", b"sec-websocket-extensions", b"grpc-timeout", b"grpc-accept-encoding", b"b3"),
        *(b"x-real-ip", b"x-client-ip", b"true-client-ip", b"cf-connecting-ip", b"x-cluster-client-ip", b"soapaction"),
    )
)
_COMMON_PREFIXES: Final = (b"x-forwarded-", b"x-envoy-", b"x-b3-", b"x-amzn-trace", b"sec-", b":", b"cf-")


def read_parameters(head: RequestHead) -> tuple[Parameters, Parameters | None, Parameters | None]:
    """Query, headers and cookies; of a head that was cut these are not known whole: None."""
    query = _read_pairs(head.query)
    if head.is_last_header_cut:
        return query, None, None
    headers: Parameters = {}
    cookies: Parameters = {}
    for header in head.headers:
        if header.name == b"cookie":
            cookies.update(_read_cookie(header.value))
        elif header.name not in _COMMON_HEADERS and not header.name.startswith(_COMMON_PREFIXES):
            headers[header.name.decode("latin-1")] = Text(header.value.decode("latin-1"))
    return query, headers, cookies


def _read_pairs(query: str) -> dict[str, object]:
    """Names of a query with their first values; a name that comes twice is a list."""
    if not query:
        return {}
    found: dict[str, list[Text]] = {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=_PAIRS_MAX)
    except ValueError:
        return {}
    for name, value in pairs:
        found.setdefault(name, []).append(Text(value))
    return {name: values if len(values) > 1 else values[0] for name, values in found.items()}


def _read_cookie(value: bytes) -> dict[str, object]:
    pairs = (part.partition("=") for part in value.decode("latin-1").split(";")[:_PAIRS_MAX])
    return {name.strip(): Text(text) for name, mark, text in pairs if mark}


# Parts of routes in the book: with `MAX_NODES` some 15 MB at most.
MAX_SCHEMAS: Final = 4_096
MAX_NODES: Final = 20_000  # Fields of all of them.
MAX_OPERATIONS: Final = 256  # Of one route.
MAX_DESCRIBED_OPERATIONS: Final = 64  # Of one route: those whose parameters and results are described by themselves.
MAX_MEDIA_TYPES: Final = 4  # Of one part and status class; what is past them is not described.
# Of MCP servers: what they list, and who uses it, some 12 MB at most. The one called longest ago is evicted.
MAX_MCP_SERVERS: Final = 256
MAX_MCP_NODES: Final = 32_768
# Reported again so often although nothing changed to a collector that takes no offers, for it may have lost its store.
REPEAT_NS: Final = 600 * 1_000_000_000
MESSAGE_FIELDS: Final = 2_000  # Of one message, some 150 KB.
FIELD_BYTES: Final = 75  # A field of it: what a description counts as.
# Of a route that serves a description; between, nothing of it is read.
DESCRIPTION_NS: Final = 60 * 1_000_000_000
OTHER_OPERATION: Final = "{word}"
_NAMED_IN_HEADS: Final = frozenset(("soap", "action"))  # By SOAPAction, X-Amz-Target, a query.
MAX_CLAIMS: Final = 64  # Values of claims of the tokens of one route.


class SchemaPart(enum.IntEnum):
    """Which part of a call a schema describes; values are those of the wire."""

    QUERY = 1
    HEADER = 2
    COOKIE = 3
    REQUEST_BODY = 4
    RESPONSE_BODY = 5
    OPERATIONS = 6
    TOKENS = 110  # What JWTs say (sensor.describe.auth.tokens).
    DESCRIPTION = 155  # Of the API, as the route serves it (sensor.describe.schemas.descriptions).
    MCP = 240  # What a server of the Model Context Protocol offers (sensor.describe.schemas.mcp),
    MCP_USES = 241  # and who uses it.
    MODEL_USES = 250  # Who asks which models (sensor.describe.schemas.model_uses).


class Schema(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one part of a route."""

    route_id: int
    part: SchemaPart
    status_class: int  # 2 for 2xx; 0 for parts of requests.
    media_type: str
    generation: int
    version: int  # Rises with each state of this process.
    samples: int  # Heads, or bodies, that were read; of operations the calls that these stand for.
    left_out: int  # Values that no bound let in.
    fields: tuple[Field, ...] = ()
    operations: tuple[OperationCount, ...] = ()
    tokens: tuple[tuple[str, str, int], ...] = ()  # Claim, value, calls.
    document: str = ""  # The outline of a description, as JSON.
    operation: str = ""  # `protocol kind name`, of its parameters (a request) or result (a response); else empty.
    digest: int = 0  # Names this state among all of all processes.
    mcp: McpServer | None = None
    mcp_uses: tuple[McpUse, ...] = ()
    model_uses: tuple[ModelUse, ...] = ()


_OF_MCP: Final = (SchemaPart.MCP, SchemaPart.MCP_USES)
_HASHED: Final = frozenset((*_OF_MCP, SchemaPart.MODEL_USES))
_WITHOUT_FIELDS: Final = frozenset((SchemaPart.OPERATIONS, SchemaPart.TOKENS, SchemaPart.DESCRIPTION, *_HASHED))
_Key = tuple[int, SchemaPart, int, str, str]


@dataclass(slots=True, eq=False)
class _Entry:
    generation: int
    tree: Tree
    samples: int = 0
    is_changed: bool = True
    reported_ns: int = 0
    digest: int = 0  # Of the state that was reported or offered last.
    is_awaited: bool = False  # It changed and was offered: reported once the collector asks for it.
    operations: dict[Operation, Tally] = field(default_factory=dict)
    tokens: Counter[tuple[str, str]] = field(default_factory=Counter)  # By claim and value.
    document: str = ""
    read_ns: int = 0  # When the document was read last.
    mcp: McpTally | None = None
    mcp_uses: McpUses | None = None
    model_uses: ModelUses | None = None

    @property
    def uses(self) -> Uses | None:
        return self.mcp_uses or self.model_uses

    @property
    def mcp_nodes(self) -> int:
        return sum(one.nodes for one in (self.mcp, self.mcp_uses) if one is not None)

    @property
    def left_out(self) -> int:
        return self.tree.left_out + sum(
            one.left_out for one in (self.mcp, self.mcp_uses, self.model_uses) if one is not None
        )


@dataclass(slots=True)
class SchemaCounts:
    """What was described, and what no bound let in."""

    read: int = total("Heads and bodies whose fields were described.")
    refused: int = total("Heads and bodies that were not described: too many fields.")
    types_left_out: int = total("Bodies that were not described: their route has too many media types.")
    descriptions_left_out: int = total(
        "API descriptions that were not reported: cut, malformed, or too large.", name="descriptions_left_out"
    )
    forgotten: int = total("Parts of routes whose schema was forgotten for room.")
    lost: int = total("Parts of routes whose schema was forgotten with something that was not reported.")


class SchemaBook:
    """Learns from what the describer and the reader of bodies show it. Not thread-safe."""

    def __init__(
        self, vocabulary: Vocabulary, rule: SampleRule, *, export_openapi_outlines: bool = True, seed: int = 0
    ) -> None:
        """`rule`: which heads are learned from; `export_openapi_outlines`: whether those that services serve are;
        `seed`: of this process alone, of 64 bits."""
        self._vocabulary = vocabulary
        self._export_openapi_outlines = export_openapi_outlines
        self._sampler = BodySampler(rule)
        self.weights = SampleWeights()
        self._entries: dict[_Key, _Entry] = {}
        self._media_types: dict[tuple[int, SchemaPart, int], set[str]] = {}
        self._nodes = 0
        self._mcp_nodes = 0
        self._mcp_routes: dict[int, None] = {}  # Of servers, the one called last at the end.
        self._generation = 0
        self._version = 0
        self._seed = seed
        self._offered: dict[int, _Key] | None = None  # By digest; None of a collector that takes no offers.
        self._counts = SchemaCounts()
        self._keyed: KeyedHash | None = None
        self._mcp_names = McpNames(self._name_listed, self._name_argument)
        self._model_routes = ModelRoutes(self._forget_models)
        self._agents = AgentWatch()

    # Learning

    def hash_by(self, keyed: KeyedHash) -> None:
        """The key of hashes from now on: what was hashed by another is forgotten."""
        if self._keyed is not None and self._keyed.key_id != keyed.key_id:
            for key in [key for key in self._entries if key[1] in _HASHED]:
                mcp = self._entries[key].mcp
                self._evict(key)
                if mcp is not None:
                    self._find(key).mcp = mcp.copy_plain()
            self._agents = AgentWatch()
        self._keyed = keyed

    def learn_head(
        self,
        route_id: int,
        status_code: int,
        head: RequestHead,
        origin: Origin,
        time_unix_ns: int,
        authentication: int = 0,
    ) -> None:
        """The parameters of a request that was served. Never raises. Cost: some 30 us, of few calls; each call of a
        route that has operations is counted."""
        self.weights.count(route_id)
        is_served = _is_served(status_code)
        # What was refused teaches no parameters, but an operation that is known was called.
        if not is_served and (route_id, SchemaPart.OPERATIONS, 0, "", "") not in self._entries:
            return
        if not self._sampler.is_due(route_id, 200 if is_served else 400, "", 0, time_unix_ns):
            return
        if is_served:
            self._learn_parameters(route_id, head, origin, time_unix_ns)
            self._count_tokens(route_id, find_token_facts(head))
        operations = find_in_head(head.query, head.get(b"soapaction"), head.get(b"x-amz-target"))
        if operations or head.method == "GET":  # Of others the body may say more.
            sample = Sample(
                status_code=status_code, origin=origin, authentication=authentication, time_unix_ns=time_unix_ns
            )
            self._count_operations(route_id, operations, sample)

    def _learn_parameters(self, route_id: int, head: RequestHead, origin: Origin, time_ns: int) -> None:
        query, headers, cookies = read_parameters(head)
        self._learn((route_id, SchemaPart.QUERY, 0, "", ""), query, origin, time_ns, is_empty=not query)
        if headers is not None and cookies is not None:
            self._learn((route_id, SchemaPart.HEADER, 0, "", ""), headers, origin, time_ns, is_empty=not headers)
            self._learn((route_id, SchemaPart.COOKIE, 0, "", ""), cookies, origin, time_ns, is_empty=not cookies)

    def learn_bodies(
        self, call: BodyCall, request: BodyDocument | None, response: BodyDocument | None, data: Collection[int]
    ) -> set[int]:
        """What the bodies of a sampled call look like. `data`: codes of what they hold. Gives codes of what its caller
        does with tools (sensor.sensitive.kinds). Never raises. Cost: scripts/bench bodies."""
        odd: set[int] = set()
        status_class = call.status_code // 100
        asked = read_model_call(call, request, response)
        is_of_model = call.route_id in self._model_routes
        if is_of_model or (asked is not None and asked.is_confirmed):
            self._count_models(call, asked, request, response, data)
        if is_of_model or call.route_id in self._model_routes:
            return odd  # What requests and answers look like is in the documentation of their API.
        operations = find_in_document(request.tree, request.content_type) if request is not None else []
        # What methods of MCP ask and answer is in its specification.
        is_specified = bool(operations) and all(one.protocol == "mcp" and one.kind == "method" for one in operations)
        if response is not None and not is_specified:
            self._learn_body(call, SchemaPart.RESPONSE_BODY, status_class, response)
            if call.is_description and call.status_code == 200 and self._export_openapi_outlines:
                self._learn_description(call, response)
        is_served = _is_served(call.status_code)
        if is_served:
            odd = self._learn_mcp(call, request, response)
        if request is None:
            return odd
        if is_served and not is_specified:
            self._learn_body(call, SchemaPart.REQUEST_BODY, 0, request)
        if not operations and self._is_named_in_heads(call.route_id):
            return odd  # Its head has been counted.
        sample = Sample(
            status_code=call.status_code,
            origin=call.origin,
            authentication=call.authentication,
            time_unix_ns=call.time_ns,
            has_error=response is not None and has_failed(response.tree),
            is_request_read=True,
            is_response_read=response is not None,
            data=data if len(operations) == 1 else (),  # Of several nobody knows which of them it was.
        )
        self._count_operations(call.route_id, operations, sample)
        if is_served and not is_specified and len(operations) == 1:
            self._describe_operation(call, operations[0], request, response)
        return odd

    def learn_beginning(self, call: BodyCall, response: BodyDocument) -> None:
        """How a stream begins whose end is far off. Never raises."""
        if _is_served(call.status_code):
            self._learn_mcp(call, None, response)

    def _count_models(
        self,
        call: BodyCall,
        asked: ModelCall | None,
        request: BodyDocument | None,
        response: BodyDocument | None,
        data: Collection[int],
    ) -> None:
        """Who asks which model. A call of no model is a sample too: it stands for others like it."""
        self._sampler.sample_more(call.route_id)
        sample = Sample(
            status_code=call.status_code,
            origin=call.origin,
            authentication=call.authentication,
            time_unix_ns=call.time_ns,
            # Of a prompt that was cut the newest turn is behind the cut: only what was found in it is known.
            is_request_read=request is not None and (request.is_complete or has_data_of_requests(data)),
            is_response_read=response is not None,
            data=data,
        )
        key = call.route_id, SchemaPart.MODEL_USES, 0, "", ""
        if asked is None or call.caller is None or self._keyed is None:
            weight = self.weights.add(call.route_id, (), sample)
            if key in self._entries:
                self._entries[key].samples += weight
            return
        entry = self._find(key)
        entry.model_uses = uses = entry.model_uses or ModelUses()
        used = uses.begin(asked, call.caller, self._name_model_word, is_served=_is_served(call.status_code))
        entry.samples += self.weights.add(call.route_id, (used,), sample)
        uses.note_call()
        self._model_routes.note(call.route_id, uses.count)

    def _forget_models(self, route_id: int) -> None:
        if (route_id, SchemaPart.MODEL_USES, 0, "", "") in self._entries:
            self._evict((route_id, SchemaPart.MODEL_USES, 0, "", ""))

    def _learn_description(self, call: BodyCall, response: BodyDocument) -> None:
        """Once in DESCRIPTION_NS, for it takes milliseconds."""
        key = call.route_id, SchemaPart.DESCRIPTION, 0, "", ""
        known = self._entries.get(key)
        if known is not None and call.time_ns - known.read_ns < DESCRIPTION_NS:
            return
        outline = write_outline(response.tree) if response.is_complete else None
        if outline is None:
            self._counts.descriptions_left_out += 1
            return
        entry = self._find(key)
        entry.samples += 1
        entry.read_ns = call.time_ns
        entry.is_changed = entry.is_changed or entry.document != outline
        entry.document = outline

    def _learn_mcp(self, call: BodyCall, request: BodyDocument | None, response: BodyDocument | None) -> set[int]:
        """What a server of the Model Context Protocol says of itself, and who uses it. Gives codes of how."""
        key, uses_key = ((call.route_id, part, 0, "", "") for part in _OF_MCP)
        shown = read_mcp_call(call, request, response) if self._keyed is not None else None
        if shown is None or self._keyed is None or not (shown.is_server or key in self._entries):
            return set()
        entry = self._find(key)
        entry.mcp = server = entry.mcp or McpTally()
        nodes = entry.mcp_nodes
        entry.samples += 1
        entry.is_changed |= server.learn(shown, self._mcp_names, self._keyed, call.time_ns)
        if call.caller is not None and shown.uses:
            used = self._find(uses_key)
            used.mcp_uses = uses = used.mcp_uses or McpUses()
            nodes += used.mcp_nodes
            used.samples += 1
            for one in shown.uses:
                name_hash = server.hash_used(one.kind, one.name, self._keyed)
                used.is_changed |= uses.count(one, name_hash, call.caller, call.time_ns)
            nodes -= used.mcp_nodes
        self._mcp_nodes += entry.mcp_nodes - nodes
        self._mcp_routes.pop(call.route_id, None)
        self._mcp_routes[call.route_id] = None
        while len(self._mcp_routes) > MAX_MCP_SERVERS or (
            self._mcp_nodes > MAX_MCP_NODES and len(self._mcp_routes) > 1
        ):
            self._forget_mcp(self._find_least_mcp())
        return self._watch_agent(call, shown, self._keyed)

    def _watch_agent(self, call: BodyCall, shown: McpCall, keyed: KeyedHash) -> set[int]:
        """Codes of what the caller does with tools. Where it sends no session, its calls are one. The caller is the
        consumer that an alert names: the name of its workload may be known only after its first calls."""
        tools = [hash_use(one, keyed) for one in shown.uses if one.kind is McpItemKind.TOOL]
        if call.caller is None or not tools:
            return set()
        session = hash((call.mcp_session, call.query))
        return self._agents.see(call.route_id, call.origin.consumer, session, tools, call.time_ns)

    def _find_least_mcp(self) -> int:
        """The route that goes first: one whose server said nothing, else the one called longest ago."""
        for route_id in self._mcp_routes:
            entry = self._entries.get((route_id, SchemaPart.MCP, 0, "", ""))
            if entry is None or entry.mcp is None or not entry.mcp.has_answered:
                return route_id
        return next(iter(self._mcp_routes))

    def _forget_mcp(self, route_id: int) -> None:
        del self._mcp_routes[route_id]
        for part in _OF_MCP:
            if (route_id, part, 0, "", "") in self._entries:
                self._evict((route_id, part, 0, "", ""))

    def _name_listed(self, name: str) -> str:
        """A name that a server lists; empty where it may not leave. A person's is no name of a tool of all."""
        is_hidden = self._judge_operation(name) is Telling.NEVER or self._vocabulary.is_name(name)
        return "" if is_hidden else name

    def _name_model_word(self, word: str) -> str:
        """A word that a caller wrote into the name of a model: only one of a dictionary may leave."""
        return self._name_listed(word) if self._judge_operation(word) is Telling.NOW else ""

    def _name_argument(self, name: str) -> str:
        return self._name_listed(name) or self._judge_claim(name)

    def _describe_operation(
        self, call: BodyCall, operation: Operation, request: BodyDocument, response: BodyDocument | None
    ) -> None:
        """Its parameters and its result, past what all calls of its protocol have around them."""
        name = self._name_operation(operation.name)
        known = self._entries.get((call.route_id, SchemaPart.OPERATIONS, 0, "", ""))
        if name == OTHER_OPERATION or known is None:
            return
        place = next((n for n, one in enumerate(known.operations) if _same(one, operation, name)), MAX_OPERATIONS)
        if place >= MAX_DESCRIBED_OPERATIONS or not self._is_shown(name, list(known.operations.values())[place]):
            return
        label = f"{operation.protocol} {operation.kind} {name}"
        for part, status_class, document in (
            (SchemaPart.REQUEST_BODY, 0, request),
            (SchemaPart.RESPONSE_BODY, call.status_code // 100, response),
        ):
            value = None if document is None else find_told(document.tree, operation.protocol, operation.kind)
            if document is not None and value is not None:
                key = call.route_id, part, status_class, document.media_type, label
                self._learn(key, value, call.origin, call.time_ns, is_cut=not document.is_complete)

    def _learn_body(self, call: BodyCall, part: SchemaPart, status_class: int, document: BodyDocument) -> None:
        types = self._media_types.setdefault((call.route_id, part, status_class), set())
        if document.media_type not in types:
            if len(types) >= MAX_MEDIA_TYPES:
                self._counts.types_left_out += 1
                return
            types.add(document.media_type)
        key = call.route_id, part, status_class, document.media_type, ""
        self._learn(key, document.tree, call.origin, call.time_ns, is_cut=not document.is_complete)

    def _learn(
        self, key: _Key, value: object, origin: Origin, time_ns: int, *, is_cut: bool = False, is_empty: bool = False
    ) -> None:
        """`is_empty`: nothing to describe, but a share of what others have."""
        if is_empty and key not in self._entries:
            return
        entry = self._find(key)
        nodes = entry.tree.nodes
        if self._nodes < MAX_NODES or is_empty:
            entry.tree.learn(value, origin, time_ns, is_cut=is_cut)
            entry.samples += 1
            entry.is_changed = True
            self._counts.read += 1
        else:
            self._make_room(key)
            self._counts.refused += 1
        self._nodes += entry.tree.nodes - nodes

    def _count_operations(self, route_id: int, operations: Sequence[Operation], sample: Sample) -> None:
        """Of a request that was not served only operations that are known: scanners guess names too."""
        key = route_id, SchemaPart.OPERATIONS, 0, "", ""
        named = [msgspec.structs.replace(one, name=self._name_operation(one.name)) for one in operations]
        if not _is_served(sample.status_code):
            known = self._entries.get(key)
            named = [one for one in named if known is not None and one in known.operations]
        if not named:
            self._count_other(route_id, sample)
            return
        self._sampler.sample_more(route_id)
        entry = self._find(key)
        entry.is_changed = True
        tallies = []
        for one in named:
            if one not in entry.operations and len(entry.operations) >= MAX_OPERATIONS:
                one = msgspec.structs.replace(one, name=OTHER_OPERATION)
            tallies.append(entry.operations.setdefault(one, Tally()))
        entry.samples += self.weights.add(route_id, tuple(tallies), sample)

    def _count_other(self, route_id: int, sample: Sample) -> None:
        """A sample that asks for no operation, of a route that has some."""
        entry = self._entries.get((route_id, SchemaPart.OPERATIONS, 0, "", ""))
        if entry is not None:
            entry.samples += self.weights.add(route_id, (), sample)
            entry.is_changed = True

    def _is_named_in_heads(self, route_id: int) -> bool:
        entry = self._entries.get((route_id, SchemaPart.OPERATIONS, 0, "", ""))
        return entry is not None and any(one.protocol in _NAMED_IN_HEADS for one in entry.operations)

    def has_operations(self, route_id: int) -> bool:
        """Whether calls of a route asked for operations."""
        return route_id in self.weights

    def _count_tokens(self, route_id: int, facts: Sequence[TokenFact]) -> None:
        if not facts:
            return
        entry = self._find((route_id, SchemaPart.TOKENS, 0, "", ""))
        entry.samples += 1
        entry.is_changed = True
        for fact in facts:
            claim = fact.claim.value, fact.value if fact.is_judged else self._judge_claim(fact.value)
            is_new = claim not in entry.tokens
            entry.tokens[(claim[0], OTHER_OPERATION) if is_new and len(entry.tokens) >= MAX_CLAIMS else claim] += 1

    def _judge_claim(self, text: str) -> str:
        """An issuer or audience that is no URL: words of APIs as they are, others as their pattern."""
        telling, pattern = judge_name(text, self._vocabulary)
        return text if telling is Telling.NOW else f"{{{pattern}}}"

    def _judge_operation(self, name: str) -> Telling:
        parts = [part for part in name.replace("/", ".").replace("-", ".").replace(":", ".").split(".") if part]
        tellings = {judge_schema_name(part, self._vocabulary) for part in parts}
        if not parts or Telling.NEVER in tellings:
            return Telling.NEVER
        return Telling.SHARED if Telling.SHARED in tellings else Telling.NOW

    def _name_operation(self, name: str) -> str:
        """The name under which it is counted on the node; those that never leave are one operation."""
        return OTHER_OPERATION if self._judge_operation(name) is Telling.NEVER else name

    def _is_shown(self, name: str, tally: Tally) -> bool:
        return name == OTHER_OPERATION or tally.use.is_shared or self._judge_operation(name) is Telling.NOW

    def _write_operations(self, entry: _Entry) -> tuple[OperationCount, ...]:
        """Operations as they may be reported now: those whose name may not leave are one of their kind."""
        shown: dict[Operation, Tally] = {}
        hidden: dict[Operation, Tally] = {}
        for one, tally in entry.operations.items():
            if one.name != OTHER_OPERATION and self._is_shown(one.name, tally):
                shown[one] = tally
            else:
                other = msgspec.structs.replace(one, name=OTHER_OPERATION)
                hidden.setdefault(other, Tally()).add_all(tally)
        counts = (tally.write(one.protocol, one.kind, one.name) for one, tally in (shown | hidden).items())
        return tuple(sorted(counts, key=lambda one: (one.protocol, one.kind, one.name)))

    def _find(self, key: _Key) -> _Entry:
        entry = self._entries.get(key)
        if entry is None:
            if len(self._entries) >= MAX_SCHEMAS:
                self._evict(next(iter(self._entries)))
            self._generation += 1
            entry = self._entries[key] = _Entry(self._generation, Tree(self._vocabulary))
            self._nodes += entry.tree.nodes
        return entry

    def _make_room(self, key: _Key) -> None:
        """The oldest goes, so that what is new is described when it comes again."""
        oldest = next(iter(self._entries))
        if oldest != key:
            self._evict(oldest)

    def _evict(self, key: _Key) -> None:
        gone = self._drop(key)
        self._counts.forgotten += 1
        self._counts.lost += gone.is_changed

    def _drop(self, key: _Key) -> _Entry:
        gone = self._entries.pop(key)
        if not key[4]:
            self._media_types.pop(key[:3], None)
        self._nodes -= gone.tree.nodes
        self._mcp_nodes -= gone.mcp_nodes
        if key[1] is SchemaPart.MODEL_USES:
            self._model_routes.clear(key[0])
        return gone

    # Telling

    def offer_all(self) -> None:
        """Report everything again: another collector may be there, or the same without what it had."""
        self._offered = None
        for entry in self._entries.values():
            entry.is_changed, entry.is_awaited = True, False

    def offer(self) -> Sequence[int]:
        """Digests of everything, of which the collector asks for what it lacks (`ask`). What changed and was not
        reported waits for that, for a thousand sensors may have come back at once."""
        self._offered = {}
        for key, entry in self._entries.items():
            if entry.is_changed:
                entry.is_awaited, entry.digest = True, self._name_state(key, entry)
            self._offered[entry.digest] = key
        return list(self._offered)

    def ask(self, digests: Iterable[int]) -> None:
        """The collector lacks these of the last offer: the next `take` has them as they are then."""
        for digest in digests:
            key = self._offered.pop(digest, None) if self._offered is not None else None
            entry = self._entries.get(key) if key is not None else None
            if entry is not None:
                entry.is_changed, entry.is_awaited = True, False

    def take(self, now_ns: int) -> Iterator[list[Schema]]:
        """What changed since it was reported, and, where nothing is offered, what was reported long ago; in lists of a
        message's size."""
        message: list[Schema] = []
        size = 0
        for key, entry in list(self._entries.items()):
            is_old = self._offered is None and now_ns - entry.reported_ns >= REPEAT_NS
            if key[1] is SchemaPart.MODEL_USES:
                entry.samples += self.weights.settle(key[0])
            uses = entry.uses
            is_over = uses is not None and uses.is_over(now_ns)
            entry.is_changed |= uses is not None and uses.is_due(now_ns)
            if is_over and not entry.is_changed:
                self._drop(key)
                continue
            if entry.is_awaited or not (entry.is_changed or is_old):
                continue
            if key[1] is SchemaPart.OPERATIONS:
                entry.samples += self.weights.weigh(key[0])
            schema = self._write(key, entry, now_ns)
            entry.is_changed, entry.reported_ns = False, now_ns
            if message and size + len(schema.fields) > MESSAGE_FIELDS:
                yield message
                message, size = [], 0
            message.append(schema)
            size += len(schema.fields) + len(schema.operations) + len(schema.document) // FIELD_BYTES
            size += entry.mcp_nodes + (entry.model_uses.nodes if entry.model_uses is not None else 0)
            if is_over:
                self._drop(key)
        if message:
            yield message

    def _name_state(self, key: _Key, entry: _Entry) -> int:
        """A digest for a new version of a state."""
        self._version += 1
        text = repr((self._seed, key, entry.generation, self._version)).encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest())

    def _write(self, key: _Key, entry: _Entry, now_ns: int) -> Schema:
        entry.digest = self._name_state(key, entry)
        route_id, part, status_class, media_type, operation = key
        return Schema(
            route_id=route_id,
            part=part,
            status_class=status_class,
            media_type=media_type,
            generation=entry.generation,
            version=self._version,
            samples=entry.samples,
            left_out=entry.left_out,
            fields=entry.tree.list_fields() if part not in _WITHOUT_FIELDS else (),
            operations=self._write_operations(entry),
            operation=operation,
            document=entry.document,
            tokens=tuple(sorted((claim, value, calls) for (claim, value), calls in entry.tokens.items())),
            digest=entry.digest,
            mcp=entry.mcp.write(self._keyed.key_id) if entry.mcp is not None and self._keyed is not None else None,
            mcp_uses=entry.mcp_uses.write(now_ns) if entry.mcp_uses is not None else (),
            model_uses=entry.model_uses.write(now_ns) if entry.model_uses is not None else (),
        )

    def figures(self) -> tuple[Figure, ...]:
        """What was described, and what no bound let in."""
        fields = ("schemas_fields", "Fields of schemas that are kept now.", self._nodes)
        return (*make_gauges([fields]), *list_figures(self._counts, "schemas_"))


def _same(known: Operation, operation: Operation, name: str) -> bool:
    return (known.protocol, known.kind, known.name) == (operation.protocol, operation.kind, name)


def _is_served(status_code: int) -> bool:
    """What a request looks like is known from those that were accepted."""
    return 200 <= status_code < 400
