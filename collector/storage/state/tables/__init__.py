"""The schema of the state, one module a subject, and `rules` of what a scope shows of each. `migrations` bring a
database to it; a test compares the two."""

from collector.storage.state.tables import (
    alerts,
    base,
    changes,
    detectors,
    findings,
    inventory,
    leases,
    log,
    notifications,
    pending,
    response,
    rules,
    sensors,
    specs,
    trust,
)

SUBJECTS = (
    base,
    alerts,
    changes,
    detectors,
    findings,
    inventory,
    leases,
    log,
    notifications,
    pending,
    response,
    sensors,
    specs,
    trust,
)
METADATA = base.METADATA
OPEN = rules.OPEN
RULES = base.RULES
