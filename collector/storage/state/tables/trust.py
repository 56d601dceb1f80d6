"""Secrets, installation keys, enrolment tokens and certificates. What is wrapped needs the state key to be read."""

from typing import Final

from sqlalchemy import Column, Index, LargeBinary, Table

from collector.storage.state.tables.base import ID, METADATA, NAME
from collector.storage.state.types import BoundedText, Integer64, Number

# The authority with its key, tokens, the key that signs webhooks.
SECRETS: Final = Table(
    "secrets",
    METADATA,
    Column("name", BoundedText(ID), primary_key=True),
    Column("wrapped", LargeBinary, nullable=False),
    Column("made_at", Number, nullable=False),
)

INSTALLATION_KEYS: Final = Table(
    "installation_keys",
    METADATA,
    Column("key_id", Integer64, primary_key=True, autoincrement=False),
    Column("wrapped", LargeBinary, nullable=False),
    Column("made_at", Number, nullable=False),
)

# One-time tokens. `used_at` is 0 for one that can still be used.
ENROLLMENTS: Final = Table(
    "enrollments",
    METADATA,
    Column("number", BoundedText(ID), primary_key=True),
    Column("secret_sha256", BoundedText(ID), nullable=False),
    Column("node", BoundedText(NAME), nullable=False),
    Column("cluster", BoundedText(NAME), nullable=False),
    Column("made_at", Number, nullable=False),
    Column("expires_at", Number, nullable=False),
    Column("used_at", Number, nullable=False),
    Column("used_by", BoundedText(NAME), nullable=False),
)

ISSUED_CERTIFICATES: Final = Table(
    "issued_certificates",
    METADATA,
    Column("serial", BoundedText(ID), primary_key=True),
    Column("cluster", BoundedText(NAME), nullable=False),
    Column("node", BoundedText(NAME), nullable=False),
    Column("issued_at", Number, nullable=False),
    Column("not_after", Number, nullable=False),
    Column("way", BoundedText(NAME), nullable=False),
    Index("issued_certificates_node", "node", "cluster"),
)

REVOKED_CERTIFICATES: Final = Table(
    "revoked_certificates",
    METADATA,
    Column("serial", BoundedText(ID), primary_key=True),
    Column("revoked_at", Number, nullable=False),
)

REVOKED_NODES: Final = Table(
    "revoked_nodes",
    METADATA,
    Column("cluster", BoundedText(NAME), primary_key=True),
    Column("node", BoundedText(NAME), primary_key=True),
    Column("revoked_at", Number, nullable=False),
)

# collector.trust.sessions: pages that are signed in. `session_hash` is an HMAC-SHA256 in hexadecimal digits.
SESSIONS: Final = Table(
    "sessions",
    METADATA,
    Column("session_hash", BoundedText(ID), primary_key=True),
    Column("until", Number, nullable=False),
)
