"""What all tables of the state share, and the tables that the state has for itself.

Times are unix seconds. Ids are made by the collector.
"""

from typing import Final

from sqlalchemy import BigInteger, Column, Integer, MetaData, Table

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
