"""Stores descriptions: uploads, lists and deletes them. The newest text of a name is in force."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock
from typing import Any, Final

from collector.core.errors import ConflictError
from collector.inventory.query import Versions
from collector.specs.document import Spec, SpecError, read_spec
from collector.specs.matching import Revision
from collector.storage.base import Store
from collector.storage.records import select

SPECS_MAX: Final = 1_000  # Names.
VERSIONS_MAX: Final = 20  # Of one name that are compared with; older ones stay in the table.
NAME_CHARACTERS_MAX: Final = 200
SOURCE_TRAFFIC: Final = "traffic "  # And where it was seen.
_DIGEST_BYTES: Final = 16
_LIST = """
SELECT name, digest, service, source, uploaded_by, length(document) AS bytes, toUnixTimestamp(time) AS time,
    version AS place
FROM specs FINAL WHERE is_deleted = 0 ORDER BY name, place DESC, digest"""
_DOCUMENT = "SELECT document FROM specs FINAL WHERE name = {name:String} AND digest = {digest:String}"
_DELETED = (
    "SELECT name FROM specs FINAL WHERE name = {name:String} AND digest = {digest:String} AND is_deleted = 1 LIMIT 1"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecRecord:
    """One row of `specs`."""

    name: str
    digest: str
    service: str
    source: str
    uploaded_by: str
    document: str
    is_deleted: int
    time: datetime
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedSpec:
    """A description as it is listed. `versions` counts its texts, the newest included."""

    name: str
    service: str
    source: str
    uploaded_by: str
    bytes: int
    time: int
    versions: int
    title: str
    version: str
    operations: int
    deprecated: int

    @property
    def is_from_traffic(self) -> bool:
        """Whether nobody gave it."""
        return bool(find_place(self.source))


class SpecTable:
    """Blocks. Raises StoreError. Texts that are compared with are kept parsed, by digest."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._versions = Versions(store, "specs", clock=clock)
        self._parsed: dict[str, Spec] = {}
        self._deciding = Lock()  # One change at a time, from what is there to what is written.

    def upload(self, *, name: str, document: str, service: str, source: str, by: str) -> Spec:
        """Put a text in force; the same text again is no other version. Raises SpecError where it is none,
        ConflictError where there are too many."""
        spec = read_spec(document)
        name = name or spec.title
        if not 0 < len(name) <= NAME_CHARACTERS_MAX or not name.isprintable():
            raise SpecError(f"The name of the description is {name!r}; give it 1 to {NAME_CHARACTERS_MAX} characters.")
        digest = _digest(document)
        with self._deciding:
            known = self._group()
            if name not in known and len(known) >= SPECS_MAX:
                raise ConflictError(f"There are {SPECS_MAX} descriptions; take one out first.")
            current = known.get(name, [{}])[0]
            if (current.get("digest"), current.get("service")) == (digest, service):
                return spec
            self._write(name, digest, service=service, source=source, by=by, document=document, is_deleted=False)
        self._parsed[digest] = spec
        return spec

    def was_deleted(self, name: str, document: str) -> bool:
        """Whether this text of this name was taken out."""
        asked = {"name": name, "digest": _digest(document)}
        return bool(select(self._store, _DELETED, asked))

    def delete(self, name: str) -> bool:
        """Take a description with all its versions out; False where there is none."""
        with self._deciding:
            rows = self._group().get(name, [])
            for row in rows:
                self._write(name, row["digest"], service="", source="", by="", document="", is_deleted=True)
        return bool(rows)

    def _write(
        self, name: str, digest: str, *, service: str, source: str, by: str, document: str, is_deleted: bool
    ) -> None:
        record = SpecRecord(
            name=name,
            digest=digest,
            service=service,
            source=source,
            uploaded_by=by,
            document=document,
            is_deleted=int(is_deleted),
            time=datetime.fromtimestamp(self._clock(), UTC),
            version=self._versions.take(),
        )
        self._store.insert_records("specs", [record])

    def list_specs(self) -> tuple[ListedSpec, ...]:
        """By name, the newest text of each."""
        return tuple(
            ListedSpec(
                name=rows[0]["name"],
                service=rows[0]["service"],
                source=rows[0]["source"],
                uploaded_by=rows[0]["uploaded_by"],
                bytes=int(rows[0]["bytes"]),
                time=int(rows[0]["time"]),
                versions=len(rows),
                title=spec.title,
                version=spec.version,
                operations=len(spec.operations),
                deprecated=sum(one.is_deprecated for one in spec.operations),
            )
            for rows in self._group().values()
            for spec in (self._read(rows[0]),)
        )

    def list_revisions(self) -> tuple[Revision, ...]:
        """All versions that are compared with, those in force first of each name. Others are parsed no longer."""
        groups = self._group().values()
        found = tuple(
            Revision(
                name=row["name"],
                service=rows[0]["service"],
                spec=self._read(row),
                is_current=number == 0,
                place=find_place(rows[0]["source"]),
            )
            for rows in groups
            for number, row in enumerate(rows[:VERSIONS_MAX])
        )
        kept = {row["digest"] for rows in groups for row in rows[:VERSIONS_MAX]}
        for digest in self._parsed.copy().keys() - kept:  # Another thread may be reading.
            self._parsed.pop(digest, None)
        return found

    def _group(self) -> dict[str, list[dict[str, Any]]]:
        groups: dict[str, list[dict[str, Any]]] = {}
        for row in select(self._store, _LIST):
            groups.setdefault(row["name"], []).append(row)
        return groups

    def _read(self, row: dict[str, Any]) -> Spec:
        digest = row["digest"]
        spec = self._parsed.get(digest)
        if spec is None:
            text = select(self._store, _DOCUMENT, {"name": row["name"], "digest": digest})[0]["document"]
            spec = self._parsed[digest] = read_spec(text)
        return spec


def find_place(source: str) -> str:
    """Where a description was seen in traffic, by the source that it is listed with; empty where somebody gave it."""
    return source.removeprefix(SOURCE_TRAFFIC) if source.startswith(SOURCE_TRAFFIC) else ""


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=_DIGEST_BYTES).hexdigest()
