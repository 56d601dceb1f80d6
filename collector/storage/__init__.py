"""Stores rows in ClickHouse, embedded or on a server: connection, tables, writer, disk limits."""
