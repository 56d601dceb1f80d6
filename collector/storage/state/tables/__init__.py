"""The schema of the state, one module a subject. `migrations` bring a database to it; a test compares the two."""

from collector.storage.state.tables import alerts, base, leases

SUBJECTS = (base, leases, alerts)
METADATA = base.METADATA
