"""Who may enter, what people decided, secrets and certificates. What is wrapped needs the state key to be read."""

from typing import Final

from sqlalchemy import JSON, Column, Index, LargeBinary, Table

from collector.storage.state.tables.base import ID, METADATA, NAME, PROSE, ROW_NUMBER
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

# collector.trust.audit.AuditEntry. Nothing of it changes, but for a consumer that is erased.
AUDIT_ENTRIES: Final = Table(
    "audit_entries",
    METADATA,
    Column("number", ROW_NUMBER, primary_key=True, autoincrement=True),
    Column("time", Number, nullable=False),
    Column("by", BoundedText(NAME), nullable=False),
    Column("action", BoundedText(ID), nullable=False),
    Column("block_id", BoundedText(ID), nullable=False),
    Column("target", BoundedText(NAME), nullable=False),
    Column("why", BoundedText(PROSE), nullable=False),
    Column("way", BoundedText(ID), nullable=False, server_default=""),
    Column("before", BoundedText(PROSE), nullable=False, server_default=""),
    Column("after", BoundedText(PROSE), nullable=False, server_default=""),
    Column("salt", BoundedText(ID), nullable=False, server_default=""),
    Column("seal", BoundedText(ID), nullable=False, server_default=""),
    Column("hash", BoundedText(ID), nullable=False, server_default=""),
    Index("ix_audit_entries_time", "time"),
    Index("ix_audit_entries_block_id", "block_id"),
    Index("ix_audit_entries_action", "action"),
)

# collector.trust.tokens.ApiToken. Of the secret there is the SHA-256 in hexadecimal digits alone.
API_TOKENS: Final = Table(
    "api_tokens",
    METADATA,
    Column("id", BoundedText(ID), primary_key=True),
    Column("name", BoundedText(ID), nullable=False),
    Column("secret_sha256", BoundedText(ID), nullable=False),
    Column("role", BoundedText(ID), nullable=False),
    Column("clusters", JSON, nullable=False),
    Column("namespaces", JSON, nullable=False),
    Column("made_by", BoundedText(NAME), nullable=False),
    Column("made_at", Number, nullable=False),
    Column("expires_at", Number, nullable=False),
    Column("last_used_at", Number, nullable=False),
    Index("ix_api_tokens_name", "name", unique=True),
    Index("ix_api_tokens_secret_sha256", "secret_sha256", unique=True),
)

# collector.trust.bindings.RoleBinding: what a user or a group of the OpenID provider may do.
ROLE_BINDINGS: Final = Table(
    "role_bindings",
    METADATA,
    Column("kind", BoundedText(ID), primary_key=True),
    Column("name", BoundedText(NAME), primary_key=True),
    Column("role", BoundedText(ID), nullable=False),
    Column("clusters", JSON, nullable=False),
    Column("namespaces", JSON, nullable=False),
    Column("made_by", BoundedText(NAME), nullable=False),
    Column("made_at", Number, nullable=False),
)

# Ways to enter that are switched off: a row of this name.
CLOSED_WAYS: Final = Table(
    "closed_ways",
    METADATA,
    Column("way", BoundedText(ID), primary_key=True),
    Column("closed_by", BoundedText(NAME), nullable=False),
    Column("closed_at", Number, nullable=False),
)

# collector.trust.sessions.Session: pages that are signed in. Of the session's secret there is the SHA-256 alone.
SESSIONS: Final = Table(
    "sessions",
    METADATA,
    Column("session_hash", BoundedText(ID), primary_key=True),
    Column("id", BoundedText(ID), nullable=False),
    Column("began_at", Number, nullable=False),
    Column("until", Number, nullable=False),
    Column("actor", BoundedText(NAME), nullable=False),
    Column("role", BoundedText(ID), nullable=False),
    Column("clusters", JSON, nullable=False),
    Column("namespaces", JSON, nullable=False),
    Column("way", BoundedText(ID), nullable=False),
    # By what it was opened, so that it ends with that: an HMAC of the first token, a named token's id, the
    # SHA-256 of an OpenID provider's name.
    Column("opener", BoundedText(ID), nullable=False),
    Column("user_name", BoundedText(NAME), nullable=False),
    Column("user_groups", JSON, nullable=False),
    Column("address", BoundedText(ID), nullable=False),
)
