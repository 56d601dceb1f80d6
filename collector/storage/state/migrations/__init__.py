"""The steps by which Alembic brings a database to the schema of this version."""
