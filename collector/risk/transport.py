"""Weak TLS by service, as the coverage tells it: which versions and cipher suites its servers chose in the last day."""

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from collector.inventory.coverage import PROTOCOL_NUMBERS, ROLE_NUMBERS, CoverageRole, PortProtocol, WeakChoice
from collector.inventory.coverage_reader import read_weak_choices
from collector.inventory.reader import Reader, select
from collector.rows import Service

# A choice that was not made for so long is none any more.
SECONDS: Final = 86_400
# Rows of ports that are read; one has 16 choices at most.
ROWS_MAX: Final = 10_000
_LISTENING: Final = next(number for number, role in ROLE_NUMBERS.items() if role is CoverageRole.LISTENING)
_WEAK: Final = f"""
SELECT node, cluster, namespace, workload, workload_kind, host_name, port, protocol, handshakes
FROM coverage_rows FINAL
WHERE role = {_LISTENING} AND time >= fromUnixTimestamp({{since:UInt32}}) AND position(handshakes, '"weak_choices"') > 0
ORDER BY time DESC
LIMIT {ROWS_MAX}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeakTls:
    """Of one service. `is_read`: its calls are in the inventory, so that its endpoints have the findings."""

    choices: tuple[WeakChoice, ...]
    is_read: bool


def read_weak_tls(reader: Reader, now: float) -> dict[Service, WeakTls]:
    """Every service that has any. Raises StoreError."""
    since = int(now) - SECONDS
    # A port of which a part is read has two rows, which tell of the same handshakes.
    heard: dict[Service, dict[tuple[str, str, str], WeakChoice]] = defaultdict(dict)
    read: set[Service] = set()
    for row in select(reader, _WEAK, {"since": max(0, since)}):
        service = _read_service(row)
        if PROTOCOL_NUMBERS.get(int(row["protocol"])) is PortProtocol.HTTPS:
            read.add(service)
        for choice in read_weak_choices(json.loads(row["handshakes"])["weak_choices"]):
            if choice.last_seen >= since:
                heard[service].setdefault((row["node"], choice.version, choice.cipher_suite), choice)
    return {
        service: WeakTls(choices=_sum_nodes(choices), is_read=service in read) for service, choices in heard.items()
    }


def _sum_nodes(choices: Mapping[tuple[str, str, str], WeakChoice]) -> tuple[WeakChoice, ...]:
    sums: dict[tuple[str, str], WeakChoice] = {}
    for (_, version, suite), choice in sorted(choices.items()):
        before = sums.get((version, suite))
        sums[version, suite] = WeakChoice(
            version=version,
            cipher_suite=suite,
            count=choice.count + (before.count if before else 0),
            last_seen=max(choice.last_seen, before.last_seen if before else 0),
        )
    return tuple(sums.values())


def _read_service(row: Mapping[str, Any]) -> Service:
    return Service(
        cluster=row["cluster"],
        namespace=row["namespace"],
        workload=row["workload"],
        workload_kind=int(row["workload_kind"]),
        host_name=row["host_name"],
        port=int(row["port"]),
    )
