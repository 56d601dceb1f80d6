"""The store of rows: ClickHouse as a server or inside the process."""
