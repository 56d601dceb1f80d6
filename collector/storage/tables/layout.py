"""What a table and a view are made of, and the statements that make them, in one ClickHouse dialect for the embedded
engine, a server and replicas.

In a database with the engine Replicated each replica has all rows: the database runs our statements everywhere, and
the engines of the tables are the Replicated ones. There are no shards: our statements join whole tables.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field

# Of facts about services, schemas and coverage.
HOUR_RETENTION_DAYS = 90
# Of what all consumers did by route and hour, which answers spans up to 48 h; the rest of the week is room for a sensor
# that was away.
HOUR_SUMMARY_RETENTION_DAYS = 8
# Insert tokens remembered a table. The writer replays at most what one WAL cursor interval holds, far below this.
DEDUPLICATION_WINDOW = 10_000
# Of replicas, which forget tokens by time too.
_DEDUPLICATION_SECONDS = 7 * 86_400
# A part is on disk before its insert returns, for the log forgets it then: 10 ms a batch of 10,000 rows, measured.
_DURABLE = "fsync_after_insert = 1, fsync_part_directory = 1"

SERVICE_COLUMNS = """
    cluster LowCardinality(String)
    namespace LowCardinality(String)
    workload LowCardinality(String)
    workload_kind UInt8
    host_name LowCardinality(String)
    port UInt16"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long rows are kept: `minute_hours` those by minute, `hour_days` those by hour and day, `alert_days` alerts
    and `audit_days` the audit log (collector/storage/state). A TTL names these in braces."""

    minute_hours: int = 48  # An hour of them is what the disk cap drops at a time.
    hour_days: int = 90
    alert_days: int = 400
    audit_days: int = 400

    @property
    def minute_seconds(self) -> int:
        return self.minute_hours * 3_600

    @property
    def hour_seconds(self) -> int:
        return self.hour_days * 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where the tables live, and for how long. `replicas` is the name of a database with the engine Replicated, which
    is also that of the cluster of its replicas; the embedded engine and single servers keep the default."""

    replicas: str = ""
    retention: Retention = Retention()

    @property
    def engine_prefix(self) -> str:
        """`Replicated` where there are replicas."""
        return "Replicated" if self.replicas else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table. `columns` has a line each, name and type. Unless the engine says otherwise, of each `key` the row with
    the highest `version` holds. Where it `is_deduplicated`, an insert with a token that it knows is a no-op."""

    name: str
    columns: str
    key: str
    engine: str = "ReplacingMergeTree(version)"
    partition: str = ""
    expiry: str = ""  # What follows TTL, with the names of Retention in braces.
    is_deduplicated: bool = False
    settings: str = ""  # Besides those that all tables have.
    indexes: Mapping[str, str] = field(default_factory=dict)  # Column and type, by name: which granules to skip.

    @property
    def types(self) -> dict[str, str]:
        """Types and what else belongs to a column, by name."""
        lines = (line.strip().partition(" ") for line in self.columns.strip().split("\n"))
        return {name: kind for name, _, kind in lines}

    def render(self, layout: Layout, known: Mapping[str, Collection[str]]) -> Iterator[str]:
        """The statements that bring it up to date where there are already columns `known`, by table."""
        clauses = (
            f"CREATE TABLE IF NOT EXISTS {self.name} (",
            ",\n".join(
                (
                    *(f"    {name} {kind}" for name, kind in self.types.items()),
                    *(f"    INDEX {name} {index}" for name, index in self.indexes.items()),
                )
            ),
            f") ENGINE = {layout.engine_prefix}{self.engine}",
            f"PARTITION BY {self.partition}" if self.partition else "",
            f"ORDER BY ({self.key})",
            f"TTL {self.write_expiry(layout)}" if self.expiry else "",
            f"SETTINGS {self._write_settings(layout)}",
        )
        yield "\n".join(filter(None, clauses))
        yield from self._add_columns(known)

    def _write_settings(self, layout: Layout) -> str:
        """Tables of replicas drop each block that they know already, unless they are asked not to."""
        window = DEDUPLICATION_WINDOW if self.is_deduplicated else 0
        if layout.replicas:
            tokens = f"replicated_deduplication_window = {window}"
            if window:
                tokens += f", replicated_deduplication_window_seconds = {_DEDUPLICATION_SECONDS}"
        else:
            tokens = f"non_replicated_deduplication_window = {window}" if window else ""
        return ", ".join(filter(None, (tokens, _DURABLE, self.settings)))

    def write_expiry(self, layout: Layout) -> str:
        """What follows TTL."""
        return self.expiry.format(**asdict(layout.retention))

    def render_expiry(self, layout: Layout, created: str) -> Iterator[str]:
        """The statements that change how long rows are kept, where the table, whose statement is `created`, does not
        keep them so already. Rows are not rewritten for it: parts learn anew when they expire."""
        wanted, found = (_find_span(text) for text in (self.write_expiry(layout), created.partition(" TTL ")[2]))
        if wanted and found and wanted != found:
            yield f"ALTER TABLE {self.name} MODIFY SETTING materialize_ttl_recalculate_only = 1"
            yield f"ALTER TABLE {self.name} MODIFY TTL {self.write_expiry(layout)}"

    def render_indexes(self, created: str) -> Iterator[str]:
        """The statements that add the indexes that the table, whose statement is `created`, lacks."""
        for name, index in self.indexes.items():
            if f"INDEX {name} " not in created:
                yield f"ALTER TABLE {self.name} ADD INDEX IF NOT EXISTS {name} {index}"
                yield f"ALTER TABLE {self.name} MATERIALIZE INDEX {name}"

    def _add_columns(self, known: Mapping[str, Collection[str]]) -> Iterator[str]:
        """What a table of an older version lacks. A column may join the key only in the statement that adds it."""
        missing = {
            column: kind for column, kind in self.types.items() if column not in known.get(self.name, self.types)
        }
        if not missing:
            return
        columns = ", ".join(f"ADD COLUMN IF NOT EXISTS {column} {kind}" for column, kind in missing.items())
        is_keyed = not missing.keys().isdisjoint(self.key.split(", "))
        order = f", MODIFY ORDER BY ({self.key})" if is_keyed else ""
        yield f"ALTER TABLE {self.name} {columns}{order}"


def _find_span(expiry: str) -> tuple[str, str] | None:
    """Unit and number of a TTL, as we write it or as the engine shows it."""
    found = re.search(r"INTERVAL (?P<n>\d+) (?P<unit>HOUR|DAY)|toInterval(?P<unit2>Hour|Day)\((?P<n2>\d+)\)", expiry)
    return (found["unit"] or found["unit2"].upper(), found["n"] or found["n2"]) if found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What fills one table, `target`, from the rows that are inserted into another, `source`, by an alias."""

    target: str
    source: str
    select: Mapping[str, str]  # Expressions by column.
    clauses: str  # What follows the source.
    given: Mapping[str, str] = field(default_factory=dict)  # Expressions that `select` reads as columns of the source.
    rebuilt_from: str = ""  # The table from which rows of the target can be had again; with all columns that are read.

    def write_query(self, source: str) -> str:
        """What goes into the target out of `source`, a table or a query with its alias."""
        columns = ",\n    ".join(f"{expression} AS {name}" for name, expression in self.select.items())
        if self.given:
            source = self._write_given(source)
        return f"SELECT\n    {columns}\nFROM {source}\n{self.clauses}"

    def _write_given(self, source: str) -> str:
        """A query of what is read of `source`, with what is `given`, under the same alias."""
        alias = self.source.partition(" ")[2]
        read = set(re.findall(rf"\b{alias}\.(\w+)", " ".join(self.select.values()))) - self.given.keys()
        columns = [f"{alias}.{name} AS {name}" for name in sorted(read)]
        columns += [f"{expression} AS {name}" for name, expression in self.given.items()]
        return f"(SELECT {', '.join(columns)} FROM {source}) AS {alias}"

    def render(self) -> Iterator[str]:
        """The view, and its query anew where an older one is there: changed in place, so that no insert goes past
        it."""
        table, _, alias = self.source.partition(" ")
        query = self.write_query(f"{table} AS {alias}")
        yield f"CREATE MATERIALIZED VIEW IF NOT EXISTS {self.target}_view TO {self.target} AS\n{query}"
        yield f"ALTER TABLE {self.target}_view MODIFY QUERY\n{query}"
