"""The policy that sensors are told: its epochs, kept over restarts, and its two forms on the wire.

The settings say what holds; an epoch counts their changes. A sensor that holds the epoch before is sent the difference,
any other the full form (sensor/uplink/policy.py applies or refuses either as a whole).
"""

import json
from dataclasses import dataclass
from pathlib import Path

from apidae.v1 import stream_pb2

from collector.config import CollectorSettings
from collector.ingest.reader import write_durably


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerPolicy:
    """When a sensor sends a row before its window ends; `epoch` rises with every change."""

    epoch: int
    distinct_objects_per_second: int
    calls_per_second: int


def load_policy(path: Path, settings: CollectorSettings) -> TriggerPolicy:
    """The policy of these settings; its epoch is one more than the last one's where they changed. Raises OSError,
    ValueError.
    """
    wanted = {
        "distinct_objects_per_second": settings.trigger_distinct_objects_per_second,
        "calls_per_second": settings.trigger_calls_per_second,
    }
    try:
        last = json.loads(path.read_text()) if path.exists() else {"epoch": 0}
        epoch = int(last["epoch"])
    except (ValueError, KeyError, TypeError):
        raise ValueError(
            f"{path} is damaged; remove it: the settings say all of it but the count of changes."
        ) from None
    if {name: last.get(name) for name in wanted} != wanted:
        epoch += 1
        write_durably(path, json.dumps({"epoch": epoch, **wanted}).encode())
    return TriggerPolicy(epoch=epoch, **wanted)


def write_policy(policy: TriggerPolicy, base_epoch: int | None) -> stream_pb2.Policy:
    """The difference from `base_epoch`, or the full form for None."""
    return stream_pb2.Policy(
        epoch=policy.epoch,
        is_full=base_epoch is None,
        base_epoch=base_epoch or 0,
        triggers=stream_pb2.Triggers(
            distinct_objects_per_second=policy.distinct_objects_per_second, calls_per_second=policy.calls_per_second
        ),
    )
