"""What every table's statement is made of: where the tables live, how long they keep, and how durable an insert is.

A statement is a template with three variables:

- `{engine_prefix}` is empty or `Replicated`.
- `{on_cluster}` is empty or ` ON CLUSTER 'name'`.
- `{write_table}` is the suffix of the tables that hold data: empty, or `_local` on a cluster. There, a Distributed
  table without the suffix stands in front of each.

Readers and writers always use the name without suffix.
"""

from collections.abc import Mapping
from dataclasses import dataclass

# An hour of minute rows is what the disk cap drops at a time; 48 of them live at once.
MINUTE_RETENTION_HOURS = 48
HOUR_RETENTION_DAYS = 90
# Insert tokens remembered a table. The writer replays at most what one WAL cursor interval holds, far below this.
DEDUPLICATION_WINDOW = 10_000
# A part is on disk before its insert returns, for the log forgets it then: 10 ms a batch of 10,000 rows, measured.
DURABLE = "fsync_after_insert = 1, fsync_part_directory = 1"
DEDUPLICATE = f"non_replicated_deduplication_window = {DEDUPLICATION_WINDOW}, {DURABLE}"

SERVICE_COLUMNS = """
    cluster LowCardinality(String),
    namespace LowCardinality(String),
    workload LowCardinality(String),
    workload_kind UInt8,
    host_name LowCardinality(String),
    port UInt16"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where the tables live: embedded and single servers keep the defaults; a cluster names itself."""

    cluster: str = ""

    @property
    def engine_prefix(self) -> str:
        """`Replicated` on a cluster."""
        return "Replicated" if self.cluster else ""

    @property
    def on_cluster(self) -> str:
        """The clause that runs a statement on every host."""
        return f" ON CLUSTER '{self.cluster}'" if self.cluster else ""

    @property
    def write_table(self) -> str:
        """The suffix of the tables that hold data."""
        return "_local" if self.cluster else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """Columns that came to a table after its first version, by name with type and default; `order` is the table's key
    where they are part of it: then of those that are not there yet."""

    columns: Mapping[str, str]
    order: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table: its statement and, on a cluster, the expression by which rows find their shard."""

    name: str
    ddl: str
    shard_by: str
    added: tuple[Added, ...] = ()


def make_newest_table(
    name: str, columns: str, *, key: str, shard_by: str, version: str = "", expiry: str = ""
) -> Table:
    """A table that keeps the newest row of each key, by the column `version` or else the one inserted last. `columns`:
    a line each; `expiry`: what follows TTL."""
    lines = (
        f"CREATE TABLE IF NOT EXISTS {name}{{write_table}}{{on_cluster}} (\n{columns.strip(chr(10))}\n)",
        f"ENGINE = {{engine_prefix}}ReplacingMergeTree{f'({version})' if version else ''}",
        f"ORDER BY ({key})",
        f"TTL {expiry}" if expiry else "",
        f"SETTINGS {DURABLE}",
    )
    return Table(name=name, shard_by=shard_by, ddl="\n".join(filter(None, lines)))


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What fills one table, `target`, from the rows that are inserted into another."""

    name: str
    target: str
    query: str
