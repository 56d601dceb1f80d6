"""Edits of templates by people: an endpoint's id and what to do in, an `Edit` out, kept and undone.

Each edit is a row of `template_edits` in the state. The catalogue applies those in force whenever it names routes, so
they survive restarts and later learning. Nothing else is written: rows of calls stay as they are.
"""

import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import wraps
from threading import Lock
from typing import Concatenate, Final, ParamSpec

from collector.core.errors import ConflictError, UnknownError
from collector.core.rows import Service
from collector.inventory.naming import name_parameter
from collector.inventory.templates.catalogue import Catalogue
from collector.inventory.templates.mapping import (
    NAME_CHARACTERS_MAX,
    Edit,
    EditedEndpoint,
    EditError,
    EditKind,
    Place,
    join_template,
    make_places,
    read_text,
    split_template,
)
from collector.inventory.templates.path_trie import PARAMETER
from collector.inventory.templates.table import TemplateTable
from collector.storage.records import Reader, select

EditParameters = ParamSpec("EditParameters")
MERGE_MAX: Final = 100
SIBLINGS_MAX: Final = 200
_PLACE: Final = "cluster, namespace, workload, workload_kind, host_name, port, method"
_PARTS: Final = "length(splitByChar('/', url_template))"
_MINE: Final = "FROM endpoint_routes FINAL WHERE endpoint_id = {id:String}"
# The host alone leaves few rows, whose paths are then counted.
_SIBLINGS: Final = f"""
SELECT endpoint_id, any(url_template) AS template FROM endpoint_routes FINAL
WHERE host = (SELECT any(host) {_MINE}) AND endpoint_id != {{id:String}}
    AND ({_PLACE}, {_PARTS}) IN (SELECT {_PLACE}, {_PARTS} {_MINE} LIMIT 1)
GROUP BY endpoint_id ORDER BY template LIMIT {SIBLINGS_MAX}"""
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\Z")
_TEXT: Final = re.compile(r"[^\s/{}]{1,200}\Z")


def _one_at_a_time(
    method: Callable[Concatenate["TemplateEditor", EditParameters], Edit],
) -> Callable[Concatenate["TemplateEditor", EditParameters], Edit]:
    """An edit from what it rests on to what is kept, while no other is under way."""

    @wraps(method)
    def edit(editor: "TemplateEditor", /, *args: EditParameters.args, **kwargs: EditParameters.kwargs) -> Edit:
        with editor.lock:
            return method(editor, *args, **kwargs)

    return edit


class TemplateEditor:
    """One for the collector. Thread-safe: one edit at a time, from what it rests on to what is kept. Blocks. Raises
    StoreError, EditError, UnknownError, ConflictError."""

    def __init__(self, *, store: Reader, table: TemplateTable, names: Catalogue, clock: Callable[[], float]) -> None:
        self._store = store
        self._table = table
        self._names = names
        self._clock = clock
        self.lock = Lock()

    def list_edits(self) -> tuple[Edit, ...]:
        """Newest first, those undone too."""
        return tuple(sorted(self._table.read_edits().values(), key=lambda edit: (-edit.time, edit.id)))

    def list_edits_of(self, service: Service, host: str, method: str) -> tuple[Edit, ...]:
        """Those about one service, host and method, and about its host's name."""
        suffix = host.partition(".")[2]
        return tuple(
            edit
            for edit in self.list_edits()
            if edit.service == service
            and (
                edit.host.partition(".")[2] == suffix
                if edit.kind is EditKind.HOST
                else (edit.host, edit.method) == (host, method)
            )
        )

    def list_values(self, endpoint_id: str, *, place: int) -> list[str]:
        """Values at a segment (from 0) that can be split off: words whose text is known. Empty for what is none."""
        endpoint = self._names.find_edited(endpoint_id)
        words = self._names.read_words()
        if endpoint is None or _has_whole_path(endpoint):
            return []
        here = (route.segments[place] for route in endpoint.routes)
        return sorted({text for segment in here if (text := read_text(segment, words)) and "{" not in text})

    def list_siblings(self, endpoint_id: str) -> list[tuple[str, str]]:
        """Id and template of those that an endpoint may be merged with: of its service, host and method, with as many
        segments, by template."""
        rows = select(self._store, _SIBLINGS, {"id": endpoint_id})
        return [(row["endpoint_id"], row["template"]) for row in rows]

    @_one_at_a_time
    def rename(self, endpoint_id: str, *, place: int, name: str, by: str) -> Edit:
        """Another name for the parameter at a segment (from 0); the endpoint is pinned by that."""
        endpoint = self._find_editable(endpoint_id)
        parts = self._check_parameter(endpoint, place)
        if not _NAME.match(name) or len(name) > NAME_CHARACTERS_MAX or f"{{{name}}}" in parts:
            raise EditError(f"The name is {name!r}; give it letters, digits and _, and none that the template has.")
        parts[place] = re.sub(r"\{[^{}]*\}", f"{{{name}}}", parts[place], count=1)
        places = make_places(endpoint.template, endpoint.routes, self._names.read_words())
        return self._add(EditKind.RENAME, endpoint, places, join_template(parts, endpoint.template), by)

    @_one_at_a_time
    def pin(self, endpoint_id: str, *, by: str) -> Edit:
        """Keep the template and its routes, whatever is learned; what fits it joins."""
        endpoint = self._find_editable(endpoint_id)
        places = make_places(endpoint.template, endpoint.routes, self._names.read_words())
        return self._add(EditKind.PIN, endpoint, places, endpoint.template, by)

    @_one_at_a_time
    def split(self, endpoint_id: str, *, place: int, value: str, by: str) -> Edit:
        """An endpoint of its own for one value of a parameter."""
        endpoint = self._find_editable(endpoint_id)
        parts = self._check_parameter(endpoint, place)
        words = self._names.read_words()
        if not _TEXT.match(value):
            raise EditError(f"The value is {value!r}; give one segment of a path.")
        mine = [route for route in endpoint.routes if read_text(route.segments[place], words) == value]
        if not mine:
            known = sorted({text for route in endpoint.routes if (text := read_text(route.segments[place], words))})
            hint = f"those are {', '.join(known[:10])}" if known else "none is known, for ids are kept as kinds only"
            raise EditError(f"No route has {value!r} at segment {place}; only words whose text is known split: {hint}.")
        places = list(make_places(endpoint.template, endpoint.routes, words))
        places[place] = Place(is_open=False, texts=frozenset((value,)))
        parts[place] = value
        is_folded = any(route.segments[place].kind == PARAMETER for route in endpoint.routes)
        since = None if is_folded else min(endpoint.first_seen.get(route.route_id, 0) for route in mine)
        note = "A sensor saw too many words here and folded some calls: they cannot be told apart." if is_folded else ""
        return self._add(
            EditKind.SPLIT, endpoint, tuple(places), join_template(parts, endpoint.template), by, since, note
        )

    @_one_at_a_time
    def keep_host(self, endpoint_id: str, *, host: str, by: str) -> Edit:
        """Hosts that were taken for one by their tenant's name are apart again: `host`, or all where it is empty."""
        endpoint = self._find(endpoint_id)
        route = endpoint.routes[0]
        known = self._names.list_hosts(route.service, route.host)
        if not known:
            raise EditError(f"The host {route.host!r} stands for one host only; there is nothing to keep apart.")
        if host and host not in known:
            some = ", ".join(known[:10])
            raise EditError(f"The host {host!r} is none of those that {route.host} stands for; some are {some}.")
        return self._add(EditKind.HOST, endpoint, (), "", by, host=host or route.host)

    def list_hosts(self, service: Service, host: str) -> tuple[str, ...]:
        """The hosts that a pattern stands for; empty where it is none."""
        return self._names.list_hosts(service, host)

    @_one_at_a_time
    def merge(self, endpoint_ids: Sequence[str], *, name: str, by: str) -> Edit:
        """One endpoint of several that differ in their segments' texts; `name`: of the parameter."""
        if not 2 <= len(set(endpoint_ids)) <= MERGE_MAX:
            raise EditError(f"{len(set(endpoint_ids))} endpoints are named; name 2 to {MERGE_MAX}.")
        endpoints = [self._find_editable(endpoint_id) for endpoint_id in dict.fromkeys(endpoint_ids)]
        first = endpoints[0]
        if len({(one.routes[0].service, one.routes[0].host, one.routes[0].method) for one in endpoints}) > 1:
            raise EditError("The endpoints are of different services, hosts or methods; only those of one can be one.")
        parts = [split_template(one.template) for one in endpoints]
        if len({len(one) for one in parts}) > 1:
            raise EditError("The endpoints' templates have different numbers of segments; they cannot be one.")
        if name and not _NAME.match(name):
            raise EditError(f"The name is {name!r}; give it letters, digits and _.")
        words = self._names.read_words()
        found = [make_places(one.template, one.routes, words) for one in endpoints]
        merged = [_join(column) for column in zip(*found, strict=True)]
        template = _name_merged([list(column) for column in zip(*parts, strict=True)], name)
        return self._add(EditKind.MERGE, first, tuple(merged), template, by)

    @_one_at_a_time
    def undo(self, edit_id: str, *, by: str) -> Edit:
        """Take an edit away: its routes are again what learning and the other edits say."""
        edit = self._table.read_edits().get(edit_id)
        if edit is None:
            raise UnknownError(f"There is no edit {edit_id[:80]!r}; look it up in the list of edits.")
        undone = replace(edit, undone_by=by, undone_at=int(self._clock()))
        if edit.undone_at or not self._table.undo_edit(undone):
            known = self._table.read_edits()[edit_id]
            raise ConflictError(f"The edit {edit_id} was undone before, by {known.undone_by}.")
        self._names.take_edit(undone)
        return undone

    def _find(self, endpoint_id: str) -> EditedEndpoint:
        found = self._names.find_edited(endpoint_id)
        if found is None:
            raise UnknownError(f"There is no endpoint {endpoint_id[:80]!r}; look it up in the list of endpoints.")
        return found

    def _find_editable(self, endpoint_id: str) -> EditedEndpoint:
        endpoint = self._find(endpoint_id)
        if _has_whole_path(endpoint):
            raise EditError(
                f"{endpoint.template} takes several segments as one value and cannot be edited; edit other templates."
            )
        return endpoint

    @staticmethod
    def _check_parameter(endpoint: EditedEndpoint, place: int) -> list[str]:
        parts = split_template(endpoint.template)
        if not 0 <= place < len(parts) or "{" not in parts[place]:
            places = [number for number, part in enumerate(parts) if "{" in part]
            raise EditError(f"Segment {place} of {endpoint.template} is no parameter; those are {places or 'none'}.")
        return parts

    def _add(
        self,
        kind: EditKind,
        endpoint: EditedEndpoint,
        places: tuple[Place, ...],
        template: str,
        by: str,
        exact_since: int | None = None,
        note: str = "",
        host: str = "",
    ) -> Edit:
        route = endpoint.routes[0]
        edit = Edit(
            id=uuid.uuid4().hex[:16],
            kind=kind,
            service=route.service,
            host=host or route.host,
            method=route.method,
            places=places,
            template=template,
            by=by,
            time=int(self._clock()),
            exact_since=exact_since,
            note=note,
        )
        self._table.add_edit(edit, endpoint.template)
        self._names.take_edit(edit)
        return edit


def _has_whole_path(endpoint: EditedEndpoint) -> bool:
    """Whether one parameter stands for several segments (collector/inventory/templates/whole_paths.py)."""
    length = len(split_template(endpoint.template))
    return any(len(route.segments) != length for route in endpoint.routes)


def _join(column: Sequence[Place]) -> Place:
    return Place(
        is_open=any(place.is_open for place in column),
        texts=frozenset().union(*(place.texts for place in column)),
        hashes=frozenset().union(*(place.hashes for place in column)),
    )


def _name_merged(columns: Sequence[Sequence[str]], name: str) -> str:
    """Segments that are the same stay; of others a parameter of one of them, else one named by what is before it."""
    parts: list[str] = []
    before = ""
    for column in columns:
        if len(set(column)) == 1:
            parts.append(column[0])
            before = column[0] if "{" not in column[0] else before
            continue
        known = next((part for part in column if part.startswith("{")), f"{{{name_parameter(before, PARAMETER)}}}")
        chosen = f"{{{name}}}" if name else known
        while chosen in parts:
            chosen = chosen.replace("}", "_2}")
        parts.append(chosen)
    return join_template(parts)
