"""Stores descriptions in the state: uploads, lists and deletes them. The newest text of a name is in force."""

import hashlib
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from collector.core.errors import ConflictError
from collector.specs.document import Spec, SpecError, read_spec
from collector.specs.fit import Extent
from collector.specs.matching import Revision
from collector.storage.state.imports import OldRows
from collector.storage.state.store import StateStore, upsert
from collector.storage.state.tables.specs import SPEC_FITS, SPECS
from collector.trust.audit import OWN_NAME, add_entries, make_entry

SPECS_MAX: Final = 1_000  # Names.
VERSIONS_MAX: Final = 20  # Of one name that are kept and compared with.
NAME_CHARACTERS_MAX: Final = 200
SOURCE_TRAFFIC: Final = "traffic "  # And where it was seen.
_DIGEST_BYTES: Final = 16
_LISTED: Final = [column for column in SPECS.columns if column.name != "document"]


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

    def __init__(self, state: StateStore, clock: Callable[[], float]) -> None:
        self._state = state
        self._clock = clock
        self._parsed: dict[str, Spec] = {}

    def upload(self, *, name: str, document: str, service: str, source: str, by: str) -> Spec:
        """Put a text in force; the same text again is no other version. Raises SpecError where it is none,
        ConflictError where there are too many."""
        spec = read_spec(document)
        name = name or spec.title
        if not 0 < len(name) <= NAME_CHARACTERS_MAX or not name.isprintable():
            raise SpecError(f"The name of the description is {name!r}; give it 1 to {NAME_CHARACTERS_MAX} characters.")
        digest = _digest(document)
        with self._state.write() as connection:
            versions = select(SPECS.c.digest, SPECS.c.service).where(SPECS.c.name == name, ~SPECS.c.is_deleted)
            known = connection.execute(versions.order_by(SPECS.c.place.desc())).all()
            names = select(func.count(SPECS.c.name.distinct())).where(~SPECS.c.is_deleted)
            if not known and connection.execute(names).scalar_one() >= SPECS_MAX:
                raise ConflictError(f"There are {SPECS_MAX} descriptions; take one out first.")
            if known and tuple(known[0]) == (digest, service):
                return spec
            newest = connection.execute(select(func.max(SPECS.c.place))).scalar() or 0
            now = self._clock()
            row = {
                "name": name,
                "digest": digest,
                "place": newest + 1,
                "service": service,
                "source": source,
                "uploaded_by": by,
                "time": now,
                "bytes": len(document.encode()),
                "is_deleted": False,
                "document": zlib.compress(document.encode()),
            }
            upsert(connection, SPECS, [row])
            others = [one.digest for one in known if one.digest != digest]
            is_beyond = SPECS.c.digest.in_(others[VERSIONS_MAX - 1 :])
            connection.execute(delete(SPECS).where(SPECS.c.name == name, is_beyond))
            if by != OWN_NAME:  # A file that is watched, and traffic, are nobody's decision.
                before = {"digest": known[0].digest, "service": known[0].service} if known else None
                after = {"digest": digest, "service": service, "version": spec.version}
                entry = make_entry(now, by, "description.uploaded", name, before=before, after=after)
                add_entries(connection, [entry])
        self._parsed[digest] = spec
        return spec

    def was_deleted(self, name: str, document: str) -> bool:
        """Whether this text of this name was taken out."""
        is_it = (SPECS.c.name == name, SPECS.c.digest == _digest(document), SPECS.c.is_deleted)
        with self._state.read() as connection:
            return connection.execute(select(SPECS.c.name).where(*is_it)).first() is not None

    def delete(self, name: str, *, by: str) -> bool:
        """Take a description with all its versions out; False where there is none."""
        is_it = (SPECS.c.name == name, ~SPECS.c.is_deleted)
        with self._state.write() as connection:
            digests = connection.execute(select(SPECS.c.digest).where(*is_it).order_by(SPECS.c.place)).scalars().all()
            if digests:
                gone = {"is_deleted": True, "document": b"", "uploaded_by": ""}
                connection.execute(update(SPECS).where(*is_it).values(gone))
                before = {"digest": digests[-1], "versions": len(digests)}
                entry = make_entry(self._clock(), by, "description.deleted", name, before=before)
                add_entries(connection, [entry])
        return bool(digests)

    def read_extents(self) -> dict[str, Extent]:
        """How far descriptions seen in traffic are in force, by name."""
        with self._state.read() as connection:
            return {row.name: Extent(row.extent) for row in connection.execute(select(SPEC_FITS))}

    def keep_extents(self, extents: Mapping[str, Extent]) -> None:
        """The same from now on."""
        rows = [{"name": name, "extent": extent} for name, extent in extents.items()]
        with self._state.write() as connection:
            connection.execute(delete(SPEC_FITS))
            if rows:
                connection.execute(insert(SPEC_FITS), rows)

    def list_specs(self) -> tuple[ListedSpec, ...]:
        """By name, the newest text of each."""
        return tuple(
            ListedSpec(
                name=rows[0].name,
                service=rows[0].service,
                source=rows[0].source,
                uploaded_by=rows[0].uploaded_by,
                bytes=rows[0].bytes,
                time=int(rows[0].time),
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
                name=row.name,
                service=rows[0].service,
                spec=self._read(row),
                is_current=number == 0,
                place=find_place(rows[0].source),
            )
            for rows in groups
            for number, row in enumerate(rows[:VERSIONS_MAX])
        )
        kept = {row.digest for rows in groups for row in rows[:VERSIONS_MAX]}
        for digest in self._parsed.copy().keys() - kept:  # Another thread may be reading.
            self._parsed.pop(digest, None)
        return found

    def _group(self) -> dict[str, list[Row[Any]]]:
        """Versions by name, the newest first."""
        listed = select(*_LISTED).where(~SPECS.c.is_deleted)
        groups: dict[str, list[Row[Any]]] = {}
        with self._state.read() as connection:
            for row in connection.execute(listed.order_by(SPECS.c.name, SPECS.c.place.desc())):
                groups.setdefault(row.name, []).append(row)
        return groups

    def _read(self, row: Row[Any]) -> Spec:
        spec = self._parsed.get(row.digest)
        if spec is None:
            text = select(SPECS.c.document).where(SPECS.c.name == row.name, SPECS.c.digest == row.digest)
            with self._state.read() as connection:
                document = connection.execute(text).scalar_one()
            spec = self._parsed[row.digest] = read_spec(zlib.decompress(document).decode())
        return spec


def import_specs(connection: Connection, rows: OldRows) -> None:
    """What an earlier version kept in ClickHouse. Raises StoreError."""
    for specs in rows.read("specs", _read_old):
        upsert(connection, SPECS, specs)
    for fits in rows.read("spec_fits", lambda row: {"name": row["name"], "extent": Extent(row["extent"])}):
        upsert(connection, SPEC_FITS, [one for one in fits if one["extent"] is not Extent.NONE])


def _read_old(row: dict[str, Any]) -> dict[str, Any]:
    document = row["document"].encode()
    return {
        **{name: row[name] for name in ("name", "digest", "service", "source", "uploaded_by")},
        "place": row["version"],
        "time": row["time"].timestamp(),
        "bytes": len(document),
        "is_deleted": bool(row["is_deleted"]),
        "document": zlib.compress(document) if document else b"",
    }


def find_place(source: str) -> str:
    """Where a description was seen in traffic, by the source that it is listed with; empty where somebody gave it."""
    return source.removeprefix(SOURCE_TRAFFIC) if source.startswith(SOURCE_TRAFFIC) else ""


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=_DIGEST_BYTES).hexdigest()
