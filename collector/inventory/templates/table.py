"""What the state keeps of templates: edits of people, words of paths, the endpoint of each route with its aliases, and
former names of workloads.

ClickHouse joins rows of calls with `endpoint_routes` and `endpoint_aliases`, so it has a copy of these two. The state
is written first. A row's version in ClickHouse is its revision in the state, which grows with each transaction of
whatever collector. `copy_names` writes to ClickHouse what its copy lacks: at the start, after a failed insert, and now
and then.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Connection, Table, delete, func, select, update

from collector.core.errors import ConflictError
from collector.core.moments import DAY_SECONDS
from collector.core.rows import Route, Service
from collector.inventory.naming import name_service
from collector.inventory.templates.mapping import (
    EDITS_MAX,
    Edit,
    EndpointName,
    read_places,
    write_places,
)
from collector.receiver.reports import QUESTION_LIMIT, FormerName, RevealedWord
from collector.storage.base import Store
from collector.storage.records import read_record
from collector.storage.state.cache import StateCache
from collector.storage.state.imports import OldRows
from collector.storage.state.store import StateStore, insert_missing, number_write, read_row, start_numbers, upsert
from collector.storage.state.tables.inventory import (
    ENDPOINT_ALIASES,
    ENDPOINT_ROUTES,
    FORMER_NAMES,
    HIDDEN_WORDS,
    REVEALED_WORDS,
    TEMPLATE_EDITS,
)
from collector.trust.audit import add_entries, make_entry

_NOT_NAMED: Mapping[int, str] = {}
_COPIED: Final = (ENDPOINT_ALIASES, ENDPOINT_ROUTES)  # An alias first: one of an endpoint with routes is not looked at.
_PRIME: Final = 1_000_003  # Sums of revisions modulo this fit both databases.
_FOLLOWED: Final = tuple(
    table.name for table in (ENDPOINT_ROUTES, FORMER_NAMES, HIDDEN_WORDS, REVEALED_WORDS, TEMPLATE_EDITS)
)
_CHUNK: Final = 5_000
_IDS: Final = 500  # Of one statement.
FORMER_NAMES_LIMIT: Final = 100_000  # Some 30 MB; older ones are not read.
_FORMER_SECONDS: Final = 400 * DAY_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointRouteRecord:
    """One row of `endpoint_routes`; `version` is the row's revision in the state."""

    route_id: int
    version: int
    endpoint_id: str
    service: str
    cluster: str
    namespace: str
    workload: str
    workload_kind: int
    host_name: str
    port: int
    host: str
    method: str
    url_template: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointAliasRecord:
    """One row of `endpoint_aliases`."""

    endpoint_id: str
    version: int
    route_id: int


_RECORDS: Final = {ENDPOINT_ALIASES.name: EndpointAliasRecord, ENDPOINT_ROUTES.name: EndpointRouteRecord}


class TemplateTable:
    """Thread-safe. Methods raise StoreError."""

    def __init__(self, state: StateStore, store: Store) -> None:
        """`store` has the copy."""
        self._state = state
        self._store = store
        self._is_copied = False
        self._edits = StateCache(state, (TEMPLATE_EDITS.name,), _read_edits)
        self._words = StateCache(state, (REVEALED_WORDS.name,), _read_words)
        self._hidden_words = StateCache(state, (HIDDEN_WORDS.name,), _read_hidden_words)
        self._former_names = StateCache(state, (FORMER_NAMES.name,), _read_former_names)

    def count_writes(self) -> int:
        """Another number after anything of it was written, by whatever collector."""
        return self._state.count_writes(_FOLLOWED)

    def read_edits(self) -> Mapping[str, Edit]:
        """All by id, those undone too; the same object as before where nothing changed."""
        return self._edits.read()

    def read_words(self) -> Mapping[int, str]:
        """Revealed texts by hash; the same object as before where nothing changed."""
        return self._words.read()

    def add_edit(self, edit: Edit, before: str) -> None:
        """Keep an edit; `before`: the template that it changes. Raises ConflictError where there are too many."""
        with self._state.write() as connection:
            if connection.execute(select(func.count()).select_from(TEMPLATE_EDITS)).scalar_one() >= EDITS_MAX:
                raise ConflictError(f"There are {EDITS_MAX} edits, which is the limit.")
            upsert(connection, TEMPLATE_EDITS, [_write_edit(edit)])
            add_entries(
                connection,
                [
                    make_entry(
                        edit.time,
                        edit.by,
                        f"template.{edit.kind}",
                        edit.id,
                        before={"template": before},
                        after=_show_edit(edit),
                    )
                ],
            )

    def undo_edit(self, edit: Edit) -> bool:
        """Keep by whom and when an edit was undone; False where it was before."""
        mine = update(TEMPLATE_EDITS).where(TEMPLATE_EDITS.c.id == edit.id, TEMPLATE_EDITS.c.undone_at == 0)
        with self._state.write() as connection:
            undone = mine.values(undone_by=edit.undone_by, undone_at=edit.undone_at)
            is_undone = connection.execute(undone).rowcount == 1
            if is_undone:
                before = _show_edit(edit)
                add_entries(
                    connection,
                    [make_entry(edit.undone_at, edit.undone_by, "template.undone", edit.id, before=before)],
                )
        return is_undone

    def add_words(self, words: Sequence[RevealedWord]) -> None:
        """Keep texts that sensors revealed."""
        with self._state.write() as connection:
            upsert(connection, REVEALED_WORDS, _write_words(words))

    def read_hidden_words(self) -> Set[int]:
        """Hashes of words that sensors are asked for; the same object as before where nothing changed."""
        return self._hidden_words.read()

    def change_hidden_words(self, asked: Set[int], answered: Set[int]) -> None:
        """Ask for words, as far as there is room, and no more for others."""
        known = self._hidden_words.read()
        gone = sorted(answered & known)
        new = sorted(asked - known)[: max(0, QUESTION_LIMIT - len(known) + len(gone))]
        if not gone and not new:
            return
        with self._state.write() as connection:
            for start in range(0, len(gone), _IDS):
                connection.execute(delete(HIDDEN_WORDS).where(HIDDEN_WORDS.c.hash.in_(gone[start : start + _IDS])))
            insert_missing(connection, HIDDEN_WORDS, [{"hash": word} for word in new])

    def read_former_names(self) -> Sequence[FormerName]:
        """The newest; the same object as before where nothing changed."""
        return self._former_names.read()

    def add_former_names(self, names: Sequence[FormerName]) -> None:
        """Keep them, and delete those that are too old."""
        newest = max(name.time for name in names).timestamp()
        with self._state.write() as connection:
            connection.execute(delete(FORMER_NAMES).where(FORMER_NAMES.c.time < newest - _FORMER_SECONDS))
            upsert(connection, FORMER_NAMES, [{**asdict(name), "time": name.time.timestamp()} for name in names])

    def list_names(self, after: int = -1) -> tuple[int, dict[int, str]]:
        """Endpoint ids by route id that were written after a revision, and the newest revision of these or `after`."""
        columns = ENDPOINT_ROUTES.c.route_id, ENDPOINT_ROUTES.c.endpoint_id, ENDPOINT_ROUTES.c.revision
        newest, names = after, dict[int, str]()
        with self._state.read() as connection:
            for route_id, endpoint_id, revision in connection.execute(
                select(*columns).where(ENDPOINT_ROUTES.c.revision > after)
            ):
                names[route_id] = endpoint_id
                newest = max(newest, revision)
        return newest, names

    def write_names(
        self, named: Sequence[tuple[Route, EndpointName]], former_ids: Mapping[int, str] = _NOT_NAMED
    ) -> int:
        """Write names that were found, and give the revision. `former_ids`: what routes that move were called until
        now, by route id; these stay aliases. What the copy does not take comes with the next `copy_names`."""
        aliases = {
            former: route.route_id
            for route, name in named
            if (former := former_ids.get(route.route_id, name.endpoint_id)) != name.endpoint_id
        }
        with self._state.write() as connection:
            revision = number_write(connection, ENDPOINT_ROUTES)
            rows = {
                ENDPOINT_ALIASES: [
                    {"endpoint_id": former, "route_id": route_id, "revision": revision}
                    for former, route_id in aliases.items()
                ],
                ENDPOINT_ROUTES: [_write_name(route, name, revision) for route, name in named],
            }
            for table in _COPIED:
                upsert(connection, table, rows[table])
        is_copied, self._is_copied = self._is_copied, False
        for table in _COPIED:
            self._insert(table, rows[table])
        self._is_copied = is_copied
        return revision

    def copy_names(self, *, is_due: bool = True) -> int:
        """Compare the copy with the state, and write what it lacks; gives how many rows. Not `is_due`: only where an
        insert failed since the last time."""
        if self._is_copied and not is_due:
            return 0
        self._renumber()
        lacking = sum(self._copy(table) for table in _COPIED)
        self._is_copied = True
        return lacking

    def _renumber(self) -> None:
        """Where the copy has later versions, the state is an older one that was restored: it holds all the same."""
        # The copy first: what it has was numbered before.
        newest = max(int(self._store.query(f"SELECT max(version) FROM {table.name}")[0][0]) for table in _COPIED)
        if newest <= self._state.count_writes([ENDPOINT_ROUTES.name]):
            return
        with self._state.write() as connection:
            start_numbers(connection, ENDPOINT_ROUTES, newest)
            revision = number_write(connection, ENDPOINT_ROUTES)
            for table in _COPIED:
                connection.execute(update(table).values(revision=revision))

    def _copy(self, table: Table) -> int:
        (key,) = table.primary_key.columns
        total = select(func.count(), func.coalesce(func.sum(table.c.revision % _PRIME), 0)).select_from(table)
        with self._state.read() as connection:
            wanted = tuple(map(int, connection.execute(total).one()))
            (found,) = self._store.query(f"SELECT count(), sum(version % {_PRIME}) FROM {table.name} FINAL")
            if tuple(map(int, found)) == wanted:
                return 0
            versions = dict(self._store.query(f"SELECT {key.name}, version FROM {table.name} FINAL"))
            lacking = 0
            for rows in connection.execute(select(table)).mappings().partitions(_CHUNK):
                stale = [row for row in rows if versions.get(row[key.name]) != row["revision"]]
                self._insert(table, stale)
                lacking += len(stale)
        return lacking

    def _insert(self, table: Table, rows: Sequence[Mapping[Any, Any]]) -> None:
        kind: Any = _RECORDS[table.name]
        records = [
            kind(version=row["revision"], **{name: value for name, value in row.items() if name != "revision"})
            for row in rows
        ]
        if records:
            self._store.insert_records(table.name, records)


def import_templates(connection: Connection, rows: OldRows) -> None:
    """What an earlier version kept in ClickHouse. Raises StoreError."""
    for edits in rows.read("template_edits", _read_old_edit):
        upsert(connection, TEMPLATE_EDITS, [_write_edit(edit) for edit in edits])
    for words in rows.read("revealed_words", lambda row: read_record(RevealedWord, row)):
        upsert(connection, REVEALED_WORDS, _write_words(words))
    for names in rows.read("former_names", lambda row: read_record(FormerName, row)):
        upsert(connection, FORMER_NAMES, [{**asdict(name), "time": name.time.timestamp()} for name in names])
    newest = 0
    for table in _COPIED:
        for found in rows.read(table.name, lambda row: {"revision": row.pop("version"), **row}):
            columns = [column.name for column in table.columns]
            upsert(connection, table, [{name: row[name] for name in columns} for row in found])
            newest = max(newest, *(row["revision"] for row in found))
    start_numbers(connection, ENDPOINT_ROUTES, newest)


def _write_name(route: Route, name: EndpointName, revision: int) -> dict[str, Any]:
    return {
        "route_id": route.route_id,
        "revision": revision,
        "endpoint_id": name.endpoint_id,
        "service": name_service(route.service),
        **asdict(route.service),
        "host": route.host,
        "method": route.method,
        "url_template": name.template,
    }


def _show_edit(edit: Edit) -> dict[str, object]:
    return {"service": name_service(edit.service), "host": edit.host, "method": edit.method, "template": edit.template}


def _write_edit(edit: Edit) -> dict[str, Any]:
    names = (column.name for column in TEMPLATE_EDITS.columns)
    own = {name: getattr(edit, name) for name in names if hasattr(edit, name)}
    return {**own, **asdict(edit.service), "places": write_places(edit.places)}


def _read_edits(connection: Connection) -> Mapping[str, Edit]:
    rows = connection.execute(select(TEMPLATE_EDITS))
    return {row.id: read_row(Edit, row, service=read_row(Service, row), places=read_places(row.places)) for row in rows}


def _read_old_edit(row: dict[str, Any]) -> Edit:
    return read_record(
        Edit,
        row,
        service=read_record(Service, row),
        places=read_places(row["places"]),
        template=row["url_template"],
        time=int(row["time"].timestamp()),
        exact_since=row["exact_since"] or None,
    )


def _write_words(words: Iterable[RevealedWord]) -> list[dict[str, Any]]:
    return [
        {"hash": word.hash, "text": word.text, "key_id": word.key_id, "time": word.time.timestamp()} for word in words
    ]


def _read_words(connection: Connection) -> Mapping[int, str]:
    return {row.hash: row.text for row in connection.execute(select(REVEALED_WORDS.c.hash, REVEALED_WORDS.c.text))}


def _read_hidden_words(connection: Connection) -> Set[int]:
    return frozenset(connection.execute(select(HIDDEN_WORDS.c.hash)).scalars())


def _read_former_names(connection: Connection) -> Sequence[FormerName]:
    newest = select(FORMER_NAMES).order_by(FORMER_NAMES.c.time.desc()).limit(FORMER_NAMES_LIMIT)
    return tuple(
        read_row(FormerName, row, time=datetime.fromtimestamp(row.time, UTC)) for row in connection.execute(newest)
    )
