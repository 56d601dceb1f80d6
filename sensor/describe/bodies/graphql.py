"""Measures what GraphQL requests ask for: how deep they nest, how often they repeat, how many there are in one call.

Takes the beginning of a request's body, or a query string, and gives numbers and facts, no names and no values. It
finds documents by the field `query`, so that a body which was cut is measured as far as it was copied. Fragments count
where they are spread. Nothing raises, and the work is linear in MAX_CHARACTERS.

Sources: GraphQL (October 2021) sections 2 and 4; GraphQL over HTTP (draft); OWASP API4:2023 on batches and aliases.
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Final
from urllib.parse import parse_qsl

import msgspec

from sensor.sensitive.kinds import PLACE_SHIFT, CallFact, DataPlace, encode_number

MAX_CHARACTERS: Final = 16_384  # Of one call; a hostile one takes 20 ms.
MAX_BATCH: Final = 10_000
MAX_NUMBER: Final = 100_000
_QUERY_FIELDS_MAX: Final = 32
# Smaller numbers are those of ordinary clients, and are not reported.
DEPTH_MIN: Final = 10
REPEATS_MIN: Final = 10
BATCH_MIN: Final = 5
_DOCUMENT: Final = re.compile(rb'"query"\s*:\s*"((?:[^"\\]|\\.)*)', re.DOTALL)
_PERSISTED: Final = re.compile(rb'"persistedQuery"\s*:')
_ANSWERED: Final = re.compile(rb'"__(?:schema|type)"\s*:\s*\{')
_ANSWER_BYTES: Final = 4_096  # Where the answer to an introspection begins.
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED: Final = {"n": "\n", "t": " ", "r": "\n", "u": " "}
_BEGINNING: Final = re.compile(r"\s*(?:#[^\n]*\s*)*(?:\{|(?:query|mutation|subscription|fragment)\b)")
_TOKEN: Final = re.compile(
    r'#[^\n]*|"""(?:\\"""|(?!""").)*(?:""")?|"(?:\\.|[^"\\\n])*"?|\.\.\.|[_A-Za-z]\w*|[{}():@]', re.DOTALL
)
_INTROSPECTION: Final = frozenset(("__schema", "__type"))


class QueryMeasure(msgspec.Struct, frozen=True, gc=False):
    """One call: levels of nested fields, most selections of one field in one place, and requests in the call."""

    depth: int
    repeats: int
    batch: int
    is_introspection: bool

    def list_codes(self) -> set[int]:
        """What is reported of it (sensor.sensitive.kinds)."""
        found = {DataPlace.CALL << PLACE_SHIFT | CallFact.INTROSPECTION} if self.is_introspection else set()
        for place, number, least in (
            (DataPlace.QUERY_DEPTH, self.depth, DEPTH_MIN),
            (DataPlace.QUERY_REPEATS, self.repeats, REPEATS_MIN),
            (DataPlace.QUERY_BATCH, self.batch, BATCH_MIN),
        ):
            if number >= least:
                found.add(place << PLACE_SHIFT | encode_number(number))
        return found


def measure_body(body: bytes, media_type: str) -> QueryMeasure | None:
    """What a request's body asks for; None where it is no GraphQL. Cost: 1 us where it has no field `query`."""
    if media_type == "application/graphql":
        return _measure([body[:MAX_CHARACTERS].decode("utf-8", "replace")], 1)
    if media_type == "application/x-www-form-urlencoded":
        return measure_query_string(body[:MAX_CHARACTERS].decode("latin-1"))
    persisted = len(_PERSISTED.findall(body[:MAX_CHARACTERS])) if b'"persistedQuery"' in body else 0
    if b'"query"' not in body and not persisted:
        return None
    texts = [_unescape(found) for found in _DOCUMENT.findall(body[:MAX_CHARACTERS])]
    is_batch = body.lstrip()[:1] == b"["
    return _measure(texts, max(len(texts), persisted) if is_batch else 1, is_persisted=persisted > 0)


def measure_query_string(query: str) -> QueryMeasure | None:
    """The same of a request by GET. Cost: 0.1 us where it has no parameter `query`."""
    if "query=" not in query:
        return None
    try:
        fields = parse_qsl(query[:MAX_CHARACTERS], max_num_fields=_QUERY_FIELDS_MAX)
    except ValueError:
        return None
    return _measure([value for name, value in fields if name == "query"][:1], 1)


def is_introspection_answered(response: bytes) -> bool:
    """Whether a response gives the schema, or a part of it."""
    return _ANSWERED.search(response[:_ANSWER_BYTES]) is not None


def _unescape(text: bytes) -> str:
    return _ESCAPE.sub(lambda found: _ESCAPED.get(found[1], found[1]), text.decode("utf-8", "replace"))


def _measure(texts: list[str], batch: int, *, is_persisted: bool = False) -> QueryMeasure | None:
    documents = [_Document(text) for text in texts[:MAX_BATCH] if _BEGINNING.match(text)]
    if not documents and not is_persisted:
        return None
    return QueryMeasure(
        depth=min(max((one.measure_depth() for one in documents), default=0), MAX_NUMBER),
        repeats=min(max((one.repeats for one in documents), default=0), MAX_NUMBER),
        batch=min(batch, MAX_BATCH),
        is_introspection=any(one.is_introspection for one in documents),
    )


@dataclass(slots=True)
class _Definition:
    """An operation or a fragment: its deepest field, and the fragments spread in it with the depth where they are."""

    depth: int = 0
    spreads: dict[str, int] = field(default_factory=dict)


class _Document:
    """One document, measured as far as it goes."""

    def __init__(self, text: str) -> None:
        self.repeats = 0
        self.is_introspection = False
        self._operations: list[_Definition] = []
        self._fragments: dict[str, _Definition] = {}
        self._read(_TOKEN.findall(text))

    def measure_depth(self) -> int:
        """Levels of fields of the deepest operation; fragments that spread each other without end are MAX_NUMBER."""
        known: dict[str, int] = {}
        order = TopologicalSorter({name: one.spreads for name, one in self._fragments.items()})
        try:
            for name in order.static_order():
                known[name] = self._deepen(self._fragments.get(name, _Definition(depth=1)), known)
        except CycleError:
            return MAX_NUMBER
        return max((self._deepen(one, known) for one in self._operations), default=0)

    @staticmethod
    def _deepen(one: _Definition, known: dict[str, int]) -> int:
        return max((one.depth, *(at + known.get(name, 1) - 1 for name, at in one.spreads.items())))

    def _read(self, tokens: list[str]) -> None:
        """One pass. Arguments are skipped, for the objects in them are no selections."""
        definition = _Definition()
        sets: list[tuple[bool, Counter[str]]] = []  # Open braces: whether each is a level, and what is selected there.
        level, nested, directives = 0, 0, 0
        before, name = "", ""
        for token in tokens:
            if token[0] in '#"':
                continue
            if token == "(":
                nested += 1
            elif token == ")":
                nested = max(0, nested - 1)
            elif nested:
                continue
            elif token == "{":
                if not sets:
                    definition = self._begin(name)
                # `... on Type {` and `... {` are no level of their own.
                is_level = not sets or not name.startswith("...")
                level += is_level
                sets.append((is_level, Counter()))
                definition.depth = max(definition.depth, level)
                name = ""
            elif token == "}":
                if sets:
                    is_level, selected = sets.pop()
                    level -= is_level
                    self.repeats = max(self.repeats, *selected.values(), 0, 0)
                name = ""
            elif token == ":":  # An alias was before it: the field follows.
                if sets and name in sets[-1][1]:
                    sets[-1][1][name] -= 1
            elif not sets:
                name = _name_definition(name, token)
            elif token == "...":
                name, directives = token, 0
            elif token == "@":
                directives += 1
                self.repeats = max(self.repeats, directives)
            elif before == "@":
                pass
            elif before == "..." and token != "on":
                name = ""
                definition.spreads[token] = max(definition.spreads.get(token, 0), level)
                sets[-1][1]["..." + token] += 1
            elif name.startswith("...") and (token == "on" or before == "on"):
                name = "..." + token
            else:
                name, directives = token, 0
                sets[-1][1][token] += 1
                self.is_introspection = self.is_introspection or token in _INTROSPECTION
            before = token
        for _, selected in sets:  # Of a document that was cut.
            self.repeats = max(self.repeats, *selected.values(), 0, 0)

    def _begin(self, name: str) -> _Definition:
        definition = _Definition()
        kind, _, own = name.partition(" ")
        if kind == "fragment":
            self._fragments[own] = definition
        else:
            self._operations.append(definition)
        return definition


def _name_definition(name: str, token: str) -> str:
    """`fragment Name` of the words before a definition's first brace; else the last word."""
    if name == "fragment":
        return f"fragment {token}"
    return name if name.startswith("fragment ") else token
