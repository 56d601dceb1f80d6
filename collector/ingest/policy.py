"""The policy that sensors are told: its epochs, kept over restarts, and its two forms on the wire.

The settings say what holds; an epoch counts their changes. A sensor that holds the epoch before is sent the difference,
any other the full form (sensor/uplink/policy.py applies or refuses either as a whole).
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from apidae.v1 import stream_pb2

from collector.config import CollectorSettings
from collector.ingest.blocks import BlockOrder, write_blocks
from collector.ingest.reader import write_durably


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerPolicy:
    """When a sensor sends a row before its window ends; `epoch` rises with every change."""

    epoch: int
    distinct_objects_per_second: int
    calls_per_second: int
    blocks: tuple[BlockOrder, ...] = ()


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
    return TriggerPolicy(
        epoch=epoch,
        distinct_objects_per_second=wanted["distinct_objects_per_second"],
        calls_per_second=wanted["calls_per_second"],
    )


def put_blocks(path: Path, policy: TriggerPolicy, blocks: tuple[BlockOrder, ...]) -> TriggerPolicy:
    """The same policy with these blocks, one epoch later; durable when this returns. Raises OSError."""
    later = replace(policy, epoch=policy.epoch + 1, blocks=blocks)
    triggers = {
        "distinct_objects_per_second": later.distinct_objects_per_second,
        "calls_per_second": later.calls_per_second,
    }
    write_durably(path, json.dumps({"epoch": later.epoch, **triggers}).encode())
    return later


def write_policy(policy: TriggerPolicy, base_epoch: int | None, now: float, cluster: str) -> stream_pb2.Policy:
    """The difference from `base_epoch`, or the full form for None, as sent at `now` (unix seconds). Either says
    everything that is blocked in the sensor's cluster."""
    return stream_pb2.Policy(
        epoch=policy.epoch,
        is_full=base_epoch is None,
        base_epoch=base_epoch or 0,
        block_set=write_blocks((block for block in policy.blocks if block.holds_in(cluster)), now),
        triggers=stream_pb2.Triggers(
            distinct_objects_per_second=policy.distinct_objects_per_second, calls_per_second=policy.calls_per_second
        ),
    )
