"""What all tables of the state share, how they are narrowed to a scope, and the tables that the state has for itself.

Times are unix seconds. Ids are made by the collector.
"""

from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import BigInteger, Column, ColumnElement, FromClause, Integer, MetaData, Select, Table, false
from sqlalchemy.sql import visitors
from sqlalchemy.sql.selectable import Alias, Join

from collector.core.scope import Scope
from collector.storage.state.types import BoundedText, Integer64, Number

ID: Final = 64  # Characters, as the next.
NAME: Final = 1_100  # Of an endpoint, a consumer, a node, a host, a person: texts on the wire have 1,024 bytes.
SUBJECT: Final = 2_600  # PostgreSQL indexes no more.
PROSE: Final = 4_096
ROW_NUMBER: Final = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows by an INTEGER alone.

UNCOUNTED: Final = "uncounted"  # In the info of a table whose writes TABLE_WRITES does not count.

METADATA: Final = MetaData()

# What was imported from the tables of an earlier version, once.
IMPORTS: Final = Table(
    "imports",
    METADATA,
    Column("name", BoundedText(ID), primary_key=True),
    Column("time", Number, nullable=False),
    Column("rows", Integer64, nullable=False),
)

# How often each table was written, but for the UNCOUNTED ones, by all collectors of this state.
TABLE_WRITES: Final = Table(
    "table_writes",
    METADATA,
    Column("table_name", BoundedText(ID), primary_key=True),
    Column("writes", Integer64, nullable=False),
)

# Which rows of a table, or of an alias of it, a scope shows (collector/storage/state/tables/rules.py).
Rule = Callable[[FromClause, Scope], ColumnElement[bool]]
RULES: Final[dict[Table, Rule]] = {}


def narrow(statement: Any, scope: Scope) -> Any:
    """A SELECT with the rules of all tables that it or a part of it reads. A table without a rule gives nothing."""

    def add_rules(part: Select[Any]) -> None:
        found = [rule for source in part.get_final_froms() for rule in _list_rules(source, scope)]
        # In place: the traversal made this copy.
        part._where_criteria += tuple(found)

    return visitors.cloned_traverse(statement, {}, {"select": add_rules})


def _list_rules(source: FromClause, scope: Scope) -> list[ColumnElement[bool]]:
    if isinstance(source, Join):
        return [*_list_rules(source.left, scope), *_list_rules(source.right, scope)]
    table = source.element if isinstance(source, Alias) else source
    if not isinstance(table, Table):
        return []  # A subquery has rules of its own.
    rule = RULES.get(table)
    return [false() if rule is None else rule(source, scope)]
