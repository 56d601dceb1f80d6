"""API descriptions, and how far those seen in traffic are in force."""

from typing import Final

from sqlalchemy import Boolean, Column, Index, Integer, LargeBinary, Table

from collector.storage.state.tables.base import ID, METADATA, NAME, PROSE
from collector.storage.state.types import BoundedText, Integer64, Number

# A text as it came, compressed by zlib; the one with the highest `place` of its name is in force. Of what a person
# deleted the digest stays, so that it is not taken from traffic again.
SPECS: Final = Table(
    "specs",
    METADATA,
    Column("name", BoundedText(NAME), primary_key=True),
    Column("digest", BoundedText(ID), primary_key=True),
    Column("place", Integer64, nullable=False),
    Column("service", BoundedText(NAME), nullable=False),
    Column("source", BoundedText(PROSE), nullable=False),
    Column("uploaded_by", BoundedText(NAME), nullable=False),
    Column("time", Number, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("is_deleted", Boolean, nullable=False),
    Column("document", LargeBinary, nullable=False),
    Index("ix_specs_place", "place"),
)

# collector.specs.fit.Extent, by the name of the description; those that are only seen are not there.
SPEC_FITS: Final = Table(
    "spec_fits",
    METADATA,
    Column("name", BoundedText(NAME), primary_key=True),
    Column("extent", BoundedText(ID), nullable=False),
)
