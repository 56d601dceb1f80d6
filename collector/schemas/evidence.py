"""Finds the parameters in an endpoint's path and the evidence for each: its routes in, `PathParameter`s out.

The evidence is the shapes of its segments with their calls, how many different words stood there, and what they looked
like. Examples are masked, so no hidden text is shown. It also names the rule that made it a parameter.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from collector.inventory.endpoints.endpoints import SHAPES
from collector.inventory.endpoints.predicates import objects_count
from collector.inventory.query import Rollup
from collector.inventory.templates.mapping import is_pattern
from collector.storage.records import Reader, select

LITERAL: Final = 1  # proto SegmentKind.
WORD: Final = 2
PARAMETER: Final = 10
ROUTES_MAX: Final = 2_000
EXAMPLES_MAX: Final = 3
HOST_PLACE: Final = -1
_NAME: Final = re.compile(r"\{([^{}]+)\}")
_MASKS: Final = {
    "integer": "#####",
    "uuid": "########-####-####-####-############",
    "hex": "################",
    "ulid": "##########################",
    "date": "####-##-##",
    "email": "###@###",
    "token": "####################",
    "parameter": "####",
}
_TYPES: Final = {
    "integer": {"type": "integer", "format": "int64"},
    "uuid": {"type": "string", "format": "uuid"},
    "date": {"type": "string", "format": "date"},
    "email": {"type": "string", "format": "email"},
}
_ROUTES: Final = f"""
SELECT r.route_id AS route_id, r.host AS host, r.segment_kind AS kinds, r.segment_text AS texts,
    r.segment_hash AS hashes, r.segment_length AS lengths, sum(d.calls) AS calls
FROM routes AS r FINAL
LEFT JOIN routes_day AS d ON d.route_id = r.route_id
WHERE r.route_id IN (SELECT route_id FROM endpoint_routes FINAL WHERE endpoint_id = {{id:String}})
GROUP BY r.route_id, host, kinds, texts, hashes, lengths
ORDER BY calls DESC, route_id
LIMIT {ROUTES_MAX}"""
_OBJECTS: Final = f"""
SELECT {objects_count(Rollup.HOUR, "h")} AS objects
FROM rows_hour AS h
WHERE h.route_id IN (SELECT route_id FROM endpoint_routes FINAL WHERE endpoint_id = {{id:String}})"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PathParameter:
    """One parameter of a template. `place` counts segments from 0; HOST_PLACE: of the host. `distinct_words`: different
    words that are values; `distinct_objects`: of ids, an estimate, None where the path has several."""

    name: str
    place: int
    kinds: Mapping[str, int]
    distinct_words: int
    distinct_objects: int | None
    examples: tuple[str, ...]
    why: str

    @property
    def schema(self) -> dict[str, str]:
        """As JSON Schema: a type only where all calls had one shape."""
        only = next(iter(self.kinds)) if len(self.kinds) == 1 else ""
        return dict(_TYPES.get(only, {"type": "string"}))


def read_parameters(reader: Reader, endpoint_id: str, url_template: str, host: str = "") -> tuple[PathParameter, ...]:
    """The parameters of one endpoint, that of its host first. Raises StoreError."""
    routes = select(reader, _ROUTES, {"id": endpoint_id})
    counted = select(reader, _OBJECTS, {"id": endpoint_id}) if routes else []
    objects = int(counted[0]["objects"] or 0) if counted else 0
    of_host = (_find_host(host, routes),) if is_pattern(host) and routes else ()
    return (*of_host, *find_parameters(url_template, routes, objects))


def _find_host(host: str, routes: Iterable[Mapping[str, Any]]) -> PathParameter:
    """The part of a host that names a tenant."""
    calls: Counter[str] = Counter()
    for route in routes:
        calls[route["host"]] += int(route["calls"])
    labels = {known.partition(".")[0] for known in calls}
    return PathParameter(
        name=host.partition("}")[0].strip("{"),
        place=HOST_PLACE,
        kinds={"host label": sum(calls.values())},
        distinct_words=len(labels),
        distinct_objects=None,
        examples=_mask({}, [len(label) for label in labels]),
        why=f"{len(labels)} hosts of this service that end in {host.partition('.')[2]} have the same API.",
    )


def find_parameters(url_template: str, routes: Iterable[Mapping[str, Any]], objects: int) -> tuple[PathParameter, ...]:
    """`objects`: distinct objects of all calls."""
    known = list(routes)
    named = [
        (place, match[1])
        for place, segment in enumerate(url_template.strip("/").split("/"))
        if (match := _NAME.search(segment)) is not None
    ]
    return tuple(_find_one(name, place, known, objects if len(named) == 1 else None) for place, name in named)


def _find_one(name: str, place: int, routes: list[Mapping[str, Any]], objects: int | None) -> PathParameter:
    kinds: Counter[str] = Counter()
    words: set[object] = set()
    lengths: list[int] = []
    for route in routes:
        if place >= len(route["kinds"]):
            continue
        kind, text = int(route["kinds"][place]), route["texts"][place]
        shape = "word" if kind == LITERAL else SHAPES.get(kind, "token")
        if kind == LITERAL and "{}" in text:
            shape = "part"
        kinds[shape] += int(route["calls"])
        if shape == "word":
            words.add(text or int(route["hashes"][place]))
            lengths.append(int(route["lengths"][place]) or len(text))
    return PathParameter(
        name=name,
        place=place,
        kinds=dict(sorted(kinds.items(), key=lambda item: (-item[1], item[0]))),
        distinct_words=len(words),
        distinct_objects=objects,
        examples=_mask(kinds, lengths),
        why=_explain(kinds, len(words)),
    )


def _mask(kinds: Mapping[str, int], lengths: list[int]) -> tuple[str, ...]:
    """What values look like, without their text."""
    masks = [_MASKS[kind] for kind in kinds if kind in _MASKS]
    masks += ["#" * length for length in sorted(set(lengths))[:EXAMPLES_MAX]]
    return tuple(masks[:EXAMPLES_MAX])


def _explain(kinds: Mapping[str, int], words: int) -> str:
    """The rule that made it a parameter, in a sentence."""
    shapes = sorted(kind for kind in kinds if kind not in ("word", "parameter", "part"))
    reasons = []
    if shapes:
        reasons.append(f"its values have the shape of {', '.join(shapes)}")
    if "part" in kinds:
        reasons.append("a part of the segment changes while the rest stays")
    if "parameter" in kinds:
        reasons.append("a sensor saw more different words here than it keeps apart")
    if words > 1:
        reasons.append(f"{words} different words with the same below them stood here")
    elif words == 1 and not reasons:
        reasons.append("its word was not revealed: too few callers share it, or it looks like a value")
    sentence = "; ".join(reasons) or "no call of this is kept any more"
    return sentence[0].upper() + sentence[1:] + "."
