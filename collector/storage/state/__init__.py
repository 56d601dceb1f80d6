"""The state: one SQL database with what people and detectors decide, in SQLite or PostgreSQL.

`tables` holds the schema, `migrations` the steps from each revision of it to the next one, and `store.py` opens the
database and gives transactions. `imports.py` reads what earlier versions kept in tables of ClickHouse.
"""
