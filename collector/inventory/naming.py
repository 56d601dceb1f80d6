"""Names the url.template of a route by its segments: `/v1/users/{user_id}/orders`. Pure.

A parameter is named after the literal before it, in the singular, and by its shape. A word that was not revealed is
`{word}`. Names are unique within a template, as OpenAPI requires.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Final

from collector.core.rows import Route, Segment, Service

LITERAL: Final = 1  # proto SegmentKind.
WORD: Final = 2
PATH: Final = 255  # Several segments that are one value; on no wire.
_SUFFIXES: Final = {3: "id", 4: "id", 5: "id", 6: "id", 7: "date", 8: "email", 9: "id", 10: "name"}
_NOT_NAME = re.compile(r"[^A-Za-z0-9]+")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_VERSION = re.compile(r"v?\d[\d.]*\Z", re.IGNORECASE)
# Plurals that end otherwise than in -s.
_IRREGULAR: Final = {
    "people": "person",
    "children": "child",
    "men": "man",
    "women": "woman",
    "indices": "index",
    "movies": "movie",
    "cookies": "cookie",
    **{word: word for word in ("news", "series", "address", "access", "process", "class", "business")},
}
_ID_BYTES: Final = 8
_NO_WORDS: Mapping[int, str] = {}


def singularize(word: str) -> str:
    """`companies` -> `company`, `boxes` -> `box`, `users` -> `user`; words it does not know stay."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "shes", "ches", "xes", "zes")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3 else word


def name_parameter(before: str, kind: int) -> str:
    """Parameter name from the literal before it (empty when there is none) and the shape: `user_id`, `date`."""
    suffix = _SUFFIXES.get(kind, "id")
    words = [part.lower() for part in _NOT_NAME.split(_CAMEL.sub(" ", before)) if part]
    if not words or _VERSION.match(before):
        return suffix
    words[-1] = singularize(words[-1])
    stem = "_".join(words[-3:])
    return stem if stem.endswith(suffix) else f"{stem}_{suffix}"


def identify_endpoint(route: Route, url_template: str) -> str:
    """An id that every route with the same service, host, method and template shares; 16 hex digits: two of a million
    endpoints collide once in 10^7 installations."""
    service = route.service
    place = (service.cluster, service.namespace, service.workload, service.host_name, str(service.port))
    parts = "\x1f".join((*place, route.host, route.method, url_template))
    return hashlib.blake2b(parts.encode("utf-8", "surrogatepass"), digest_size=_ID_BYTES).hexdigest()


def template(segments: Sequence[Segment], has_trailing_slash: bool, words: Mapping[int, str] = _NO_WORDS) -> str:
    """The template of `segments`; `words` holds revealed texts by hash, for routes that came before the reveal."""
    parts: list[str] = []
    used: dict[str, int] = {}
    before = ""
    for segment in segments:
        text = segment.text or (words.get(segment.hash, "") if segment.kind == WORD else "")
        if segment.kind == LITERAL and "{}" in text:
            parts.append(text.replace("{}", f"{{{_number(name_parameter(before, 3), used)}}}"))
        elif segment.kind in (LITERAL, WORD) and text:
            parts.append(text)
            before = text
        elif segment.kind == WORD:
            parts.append(f"{{{_number('word', used)}}}")
        elif segment.kind == PATH:
            parts.append(f"{{{_number('path', used)}}}")
        else:
            parts.append(f"{{{_number(name_parameter(before, segment.kind), used)}}}")
    path = "/" + "/".join(parts)
    return path + "/" if has_trailing_slash and parts else path


def _number(name: str, used: dict[str, int]) -> str:
    """`name`, or `name_2`, `name_3` where it occurs again."""
    used[name] = used.get(name, 0) + 1
    return name if used[name] == 1 else f"{name}_{used[name]}"


def name_service(service: Service) -> str:
    """A service in a few characters: `namespace/workload:port` or `workload:port`."""
    place = f"{service.namespace}/" if service.namespace else ""
    return f"{place}{service.workload or service.host_name or 'unknown'}:{service.port}"
