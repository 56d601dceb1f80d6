"""What people decided about templates, as rules over what was learned: pure.

An edit (split, merge, rename, pin) is one rule: for a service, host and method, which paths it is about and what their
template is. A path is matched segment by segment against what learning made of it, so that routes that come later are
found too, and a rule never takes a literal that is an endpoint of its own. Of several rules that fit, the one with most
fixed segments holds, then the newest. Without its rule a route is again what learning says: undo is to take the rule
away.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from collector.inventory.mapping import EndpointName
from collector.inventory.naming import LITERAL, WORD, identify_endpoint
from collector.rows import Route, Segment, Service

NAME_CHARACTERS_MAX: Final = 64
EDITS_MAX: Final = 10_000
WORDS_MAX: Final = 2_000  # Of one place; of more, learning says that it is a parameter.


class EditKind(StrEnum):
    """What was done."""

    SPLIT = "split"
    MERGE = "merge"
    RENAME = "rename"
    PIN = "pin"
    HOST = "host"  # A host, or all of a pattern, keeps its own name (collector/inventory/host_names.py).


class EditError(ValueError):
    """What was asked cannot be done; the message is one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What may stand at one segment: these texts, words of these hashes, and where `is_open` all that is a parameter by
    learning."""

    is_open: bool
    texts: frozenset[str] = frozenset()
    hashes: frozenset[int] = frozenset()

    def fits(self, segment: Segment, text: str, learned: str) -> bool:
        """`text` of the segment as far as it is known; `learned`: its part of the learned template."""
        if text and text in self.texts:
            return True
        if segment.kind == WORD and segment.hash in self.hashes:
            return True
        return self.is_open and "{" in learned


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """One decision. `exact_since`: unix seconds since when a split counts all calls, None where it is none or they are
    not known apart; `note` says why not."""

    id: str
    kind: EditKind
    service: Service
    host: str
    method: str
    places: tuple[Place, ...]
    template: str
    by: str
    time: int
    exact_since: int | None = None
    note: str = ""
    undone_by: str = ""
    undone_at: int = 0

    @property
    def fixed_count(self) -> int:
        """Segments that are no parameter."""
        return sum(not place.is_open for place in self.places)


class EditBook:
    """The edits in force, by service and host."""

    def __init__(self, edits: Iterable[Edit] = ()) -> None:
        self._rules: dict[tuple[Service, str], list[Edit]] = {}
        for edit in sorted(edits, key=lambda edit: (-edit.fixed_count, -edit.time, edit.id)):
            if not edit.undone_at and edit.kind is not EditKind.HOST:
                self._rules.setdefault((edit.service, edit.host), []).append(edit)

    def list_edited_hosts(self) -> set[tuple[Service, str]]:
        """Whose templates somebody edited, by service and host."""
        return set(self._rules)

    def apply(
        self, routes: Iterable[Route], learned: Mapping[int, EndpointName], words: Mapping[int, str]
    ) -> dict[int, EndpointName]:
        """Names of routes, those that an edit is about as it says."""
        found = dict(learned)
        for route in routes if self._rules else ():
            rules = self._rules.get((route.service, route.host), ())
            template = learned[route.route_id].template
            edit = next((one for one in rules if _fits(one, route, template, words)), None)
            if edit is not None:
                endpoint_id = identify_endpoint(route, edit.template)
                found[route.route_id] = EndpointName(endpoint_id=endpoint_id, template=edit.template)
        return found


def _fits(edit: Edit, route: Route, learned: str, words: Mapping[int, str]) -> bool:
    parts = split_template(learned)
    if edit.method != route.method or len(edit.places) != len(route.segments) or len(parts) != len(route.segments):
        return False
    return all(
        place.fits(segment, read_text(segment, words), part)
        for place, segment, part in zip(edit.places, route.segments, parts, strict=True)
    )


def read_text(segment: Segment, words: Mapping[int, str]) -> str:
    """The text of a literal or of a word that was revealed; empty for all else."""
    if segment.kind == WORD:
        return segment.text or words.get(segment.hash, "")
    return segment.text if segment.kind == LITERAL else ""


def split_template(template: str) -> list[str]:
    """Segments of a template."""
    return [part for part in template.split("/") if part]


def join_template(parts: Iterable[str]) -> str:
    """The template of some segments."""
    return "/" + "/".join(parts)


def make_places(template: str, routes: Sequence[Route], words: Mapping[int, str]) -> tuple[Place, ...]:
    """What an endpoint with this template and these routes is about: its literals, and at its parameters all that is
    one by learning, and the words that stand there now."""
    places = []
    for number, part in enumerate(split_template(template)):
        if "{" not in part:
            places.append(Place(is_open=False, texts=frozenset((part,))))
            continue
        here = [route.segments[number] for route in routes if number < len(route.segments)]
        texts = {text for segment in here if (text := read_text(segment, words))}
        hashes = {segment.hash for segment in here if segment.kind == WORD}
        kept = frozenset(sorted(texts)[:WORDS_MAX]), frozenset(sorted(hashes)[:WORDS_MAX])
        places.append(Place(is_open=True, texts=kept[0], hashes=kept[1]))
    return tuple(places)


def write_places(places: Iterable[Place]) -> str:
    """As JSON, for the store."""
    return json.dumps(
        [{"open": one.is_open, "texts": sorted(one.texts), "hashes": sorted(one.hashes)} for one in places]
    )


def read_places(text: str) -> tuple[Place, ...]:
    """The other way."""
    stored: list[dict[str, Any]] = json.loads(text)
    return tuple(
        Place(is_open=one["open"], texts=frozenset(one["texts"]), hashes=frozenset(one["hashes"])) for one in stored
    )
