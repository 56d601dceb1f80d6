"""Requests that nobody held against the attack rules, as a row of the coverage. Pure."""

from collections.abc import Iterator
from typing import Final

import msgspec

from sensor.attacks.account import AttackAccount
from sensor.calls import Service
from sensor.coverage.limits import NODE_WORKLOAD
from sensor.coverage.row import CoverageRole, PortCoverage, PortProtocol

_MEANING: Final = (
    "Requests that looked like an attack beyond the budget of heads, or that attack_bytes_per_second had no room for: "
    "they were counted and not held against the attack rules. Raise it, or look at who sends so many."
)


def cover_attacks(account: AttackAccount, unknown_service: Service) -> Iterator[PortCoverage]:
    """A row where there were any; `connections` is how many calls."""
    if account.skipped or account.unread:
        yield PortCoverage(
            service=msgspec.structs.replace(unknown_service, workload=NODE_WORKLOAD),
            protocol=PortProtocol.MISSED,
            role=CoverageRole.NODE,
            connections=account.skipped + account.unread,
            bytes=0,
            address="requests not held against the attack rules",
            reason=_MEANING,
        )
