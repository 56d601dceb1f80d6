"""The JSON line of a scenario: the same eight names in each, null where a scenario does not measure one."""

import json
from collections.abc import Mapping
from typing import Final

NAMES: Final = (
    "scenario", "cpu_ratio", "cpu_s_per_100k", "sensor_cpu_s_per_100k", "seen", "made", "dropped", "memory_bytes",
)  # fmt: skip


def print_line(fields: Mapping[str, object]) -> None:
    """The eight first, then what else the scenario says."""
    print(json.dumps({name: fields.get(name) for name in NAMES} | dict(fields)), flush=True)
