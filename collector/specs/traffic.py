"""Descriptions that services serve themselves, as sensors saw them in traffic: outlines out of the store, put in force.

A description of one's own says what a service means to have, not what it was meant to have; so where a person or a file
describes the service too, theirs counts alone (collector/specs/matching.py).
"""

from dataclasses import dataclass
from typing import Final

from collector.errors import ConflictError
from collector.ingest.schemas import DESCRIPTION
from collector.inventory.reader import Reader, select
from collector.specs.document import SpecError
from collector.specs.table import NAME_CHARACTERS_MAX, SOURCE_TRAFFIC, SpecTable

# Where services serve their own description: the usual names.
SERVED_NAMES: Final = r"/(?:openapi|swagger)(?:\.json|\.ya?ml)?$|/v[23]/api-docs(?:/|$)|/api-docs(?:\.json)?$"
ROUTES_MAX: Final = 1_000
_SEEN: Final = f"""
SELECT s.route_id AS route_id, any(n.service) AS service, any(n.host) AS host, any(n.url_template) AS template,
    argMax(s.fields, (s.time, s.version)) AS document
FROM schemas AS s FINAL INNER JOIN (SELECT * FROM endpoint_routes FINAL) AS n ON n.route_id = s.route_id
WHERE s.part = {DESCRIPTION} AND n.method = 'GET' AND match(n.url_template, {{names:String}})
GROUP BY s.route_id ORDER BY service, host, template, route_id LIMIT {ROUTES_MAX}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenDescription:
    """An outline, and who serves it where."""

    service: str
    place: str  # Host and path.
    document: str

    @property
    def name(self) -> str:
        """The name that its description has; without slashes, as it is part of a URL."""
        return f"{self.service} {self.place}".replace("/", "-")[:NAME_CHARACTERS_MAX]


class SpecTraffic:
    """Puts in force what changed. Not thread-safe. Raises StoreError."""

    def __init__(self, *, reader: Reader, table: SpecTable) -> None:
        self._reader = reader
        self._table = table
        self._taken: dict[str, str] = {}  # Documents by name.

    def look(self) -> dict[str, str]:
        """Gives what is none, by place: why."""
        errors: dict[str, str] = {}
        for seen in self._list_seen():
            if self._taken.get(seen.name) == seen.document:
                continue
            try:
                # What a person took out stays out until its text is another.
                if not self._table.was_deleted(seen.name, seen.document):
                    self._table.upload(
                        name=seen.name,
                        document=seen.document,
                        service=seen.service,
                        source=f"{SOURCE_TRAFFIC}{seen.place}",
                        by="apidae",
                    )
                self._taken[seen.name] = seen.document
            except (SpecError, ConflictError) as error:
                errors[seen.place] = str(error)
        return errors

    def _list_seen(self) -> list[SeenDescription]:
        return [
            SeenDescription(service=row["service"], place=f"{row['host']}{row['template']}", document=row["document"])
            for row in select(self._reader, _SEEN, {"names": SERVED_NAMES})
        ]
