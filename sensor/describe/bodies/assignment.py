"""Finds mass assignment (OWASP API3:2023): a write with a field that no other caller sends.

Takes the parsed bodies of sampled writes that were answered 2xx, and gives codes of what was odd; no name and no value
leaves by it. A field is **extra** if CALLERS_MIN callers sent other bodies to the route, nobody else sent this field,
and new fields are rare there: among the callers of a route, at most NOVELTY of them brought a field of their own (Good
and Turing: that share is the chance that the next one does). More than EXTRA_MAX of them at once are a client that
sends back the whole object that it got.

- SET_FIELD: the answer has the value that was sent, and answers of the route had the field before with other values,
  all of few. So the server sets this field, and the caller changed it.
- EXTRA_FIELD: the field's name grants something (common/privileges.py), and the answer does not show it, or has
  values of its own for each object. Names that people change for good reasons are skipped.

Fields whose name grants nothing, or is such a name, need three times as many callers.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from common.bounded import BoundedDict
from common.privileges import is_weak, number_name
from sensor.sensitive.kinds import PLACE_SHIFT, DataPlace

CALLERS_MIN: Final = 24
WEAK_CALLERS_MIN: Final = 72
NOVELTY: Final = 0.03
EXTRA_MAX: Final = 3
ROUTES_MAX: Final = 1_024
TOTAL_MAX: Final = 20_000  # Fields of all routes, some 1 KB each at most; the route seen longest ago goes.
CALLERS_MAX: Final = 128  # Of a route, by hash; more are not counted.
FIELDS_MAX: Final = 256  # Of a route, and of one body.
VALUES_MAX: Final = 12  # Different ones of a field in answers; with more it is a value of each object.
_ANSWERS_MIN: Final = 10  # With the field, before its values are known.
_DEPTH_MAX: Final = 4
_KEYS_MAX: Final = 64  # Of one object; with more its keys are data.
_NAME_MAX: Final = 64
# Bodies with these have the operation in a field, and each its own fields.
_OPERATIONS: Final = frozenset(("jsonrpc", "query", "operationName", "method", "Action"))

Scalar = str | int | float | bool


class _Field(msgspec.Struct, gc=False):
    """In requests: the first caller who sent it, whether others did, and whether it was odd then. In answers: how many
    had each value, by hash."""

    caller: int = 0
    is_shared: bool = False
    is_odd: bool = False
    answers: int = 0
    values: dict[int, int] = msgspec.field(default_factory=dict)


class _Route(msgspec.Struct, gc=False):
    callers: set[int]
    fields: dict[str, _Field]  # Of requests, by path.
    answered: dict[str, _Field]  # Of answers, by name.


class FieldBook:
    """What callers send to each route, and what its answers have. Not thread-safe."""

    def __init__(self) -> None:
        self._routes: BoundedDict[int, _Route] = BoundedDict(ROUTES_MAX, self._drop)
        self._total = 0

    def see(self, route_id: int, caller: int, request: object, response: object) -> set[int]:
        """Codes of a write that was served (sensor.sensitive.kinds); then it is known. Cost: 1 us a field."""
        if not isinstance(request, dict) or not caller or not _OPERATIONS.isdisjoint(request):
            return set()
        sent = dict(_list_fields(request))
        answered = {path.rpartition(".")[2]: value for path, value in _list_fields(response)}
        route = self._routes.get(route_id)
        if route is None:
            route = self._routes[route_id] = _Route(set(), {}, {})
        else:
            self._routes.renew(route_id, route)
        codes = self._judge(route, caller, sent, answered)
        before = len(route.fields) + len(route.answered)
        self._learn(route, caller, sent, answered, is_odd=bool(codes))
        self._total += len(route.fields) + len(route.answered) - before
        while self._total > TOTAL_MAX and len(self._routes) > 1:
            oldest = next(iter(self._routes))
            self._drop(oldest, self._routes.pop(oldest))
        return codes

    def _drop(self, _: int, route: _Route) -> None:
        self._total -= len(route.fields) + len(route.answered)

    @staticmethod
    def _judge(route: _Route, caller: int, sent: dict[str, Scalar], answered: dict[str, Scalar]) -> set[int]:
        others = len(route.callers - {caller})
        if others < CALLERS_MIN:
            return set()
        own = sum(not (one.is_shared or one.is_odd or one.caller == caller) for one in route.fields.values())
        if own > NOVELTY * others:
            return set()
        extra = [path for path in sent if (known := route.fields.get(path)) is None or _is_own(known, caller)]
        if not 0 < len(extra) <= EXTRA_MAX:
            return set()
        codes = set()
        for path in extra:
            name = path.rpartition(".")[2]
            number = number_name(name)
            if is_weak(number) and others < WEAK_CALLERS_MIN:
                continue
            if _is_set(route.answered.get(name), sent[path], answered.get(name)):
                codes.add(DataPlace.SET_FIELD << PLACE_SHIFT | number)
            elif not is_weak(number) and not _is_given(route.answered.get(name), sent[path]):
                codes.add(DataPlace.EXTRA_FIELD << PLACE_SHIFT | number)
        return codes

    @staticmethod
    def _learn(
        route: _Route, caller: int, sent: dict[str, Scalar], answered: dict[str, Scalar], *, is_odd: bool
    ) -> None:
        if len(route.callers) < CALLERS_MAX:
            route.callers.add(caller)
        for path in sent:
            known = route.fields.get(path)
            if known is None and len(route.fields) < FIELDS_MAX:
                route.fields[path] = _Field(caller, is_odd=is_odd)
            elif known is not None and known.caller != caller:
                known.is_shared = True
        if is_odd:  # Its answer shows what it changed.
            return
        for name, value in answered.items():
            field = route.answered.get(name)
            if field is None:
                if len(route.answered) >= FIELDS_MAX:
                    continue
                field = route.answered[name] = _Field()
            field.answers += 1
            if len(field.values) <= VALUES_MAX:
                field.values[_fold(value)] = field.values.get(_fold(value), 0) + 1


def _fold(value: Scalar) -> int:
    """A form says `true` and `7` where JSON has a boolean and a number."""
    return hash(str(value).lower())


def _is_own(known: _Field, caller: int) -> bool:
    return known.caller == caller and not known.is_shared


def _is_set(known: _Field | None, sent: Scalar, answered: Scalar | None) -> bool:
    """Whether an answer shows that the caller changed what the server sets."""
    if known is None or known.answers < _ANSWERS_MIN or len(known.values) > VALUES_MAX or answered is None:
        return False
    return _fold(sent) == _fold(answered) and _fold(sent) not in known.values


def _is_given(known: _Field | None, sent: Scalar) -> bool:
    """Whether a value is one that most answers have: who sends it back changes nothing."""
    return known is not None and 2 * known.values.get(_fold(sent), 0) > known.answers


def _list_fields(document: object, path: str = "", depth: int = 0) -> Iterator[tuple[str, Scalar]]:
    """Paths and values of a document's fields that hold one value; a list counts by its first element."""
    if isinstance(document, list):
        document = document[0] if document else None
    if not isinstance(document, dict) or depth >= _DEPTH_MAX or len(document) > _KEYS_MAX:
        return
    for name, value in list(document.items())[:FIELDS_MAX]:
        if not isinstance(name, str) or not 0 < len(name) <= _NAME_MAX:
            continue
        own = f"{path}.{name.replace('.', '_')}"
        if isinstance(value, str | int | float):
            yield own, value
        elif isinstance(value, dict | list) and value:
            if isinstance(value, list) and not isinstance(value[0], dict | list):
                yield own, repr(value[:_KEYS_MAX])
            else:
                yield from _list_fields(value, own, depth + 1)
