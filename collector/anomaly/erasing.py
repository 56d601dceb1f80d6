"""The detectors' state without one consumer: what was learned of it stays as that of nobody, and ages out.

Names are MessagePack beside the keys of their slots (collector/anomaly/subjects.py). Both are replaced; a key is a hash
of the name and tells it to whoever guesses.
"""

import secrets
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from collector.anomaly.detectors.contract import State
from collector.anomaly.engine import Engine

ERASED: Final = "erased:"


def erase_from_engine(engine: Engine, consumer: str) -> tuple[Engine, int]:
    """An engine that knows all but one consumer, and how many subjects were its; the same engine where none was."""
    parts = engine.dump()
    count = _erase(parts, consumer)
    if not count:
        return engine, 0
    renewed = engine.make_new()
    renewed.load(parts)
    return renewed, count


def remove_old_states(checkpoint_path: Path, consumer: str) -> int:
    """Delete what was moved aside at an upgrade or damaged and names the consumer, or cannot be read; nobody needs it.
    Gives how many. Raises OSError."""
    count = 0
    for path in checkpoint_path.parent.glob(f"{checkpoint_path.name}.*"):
        if _may_name(path, consumer.encode()):
            path.unlink()
            count += 1
    return count


def _may_name(path: Path, consumer: bytes) -> bool:
    """Whether a state names a consumer; of one that cannot be read nobody knows."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(consumer in archive.read(name) for name in archive.namelist())
    except OSError:
        raise
    except Exception:  # A damaged archive makes its reader raise more than it says.
        return True


def _erase(parts: Mapping[str, State], consumer: str) -> int:
    """In `names`, or `sources.names` of a part of a part, and the `keys` beside them."""
    count = 0
    for state in parts.values():
        for field in [field for field in state if field.rpartition(".")[2] == "names"]:
            names = msgspec.msgpack.decode(state[field].tobytes(), strict=False)
            mine = [slot for slot, one in names.items() if isinstance(one, dict) and one.get("consumer") == consumer]
            if not mine:
                continue
            count += len(mine)
            for slot in mine:
                names[slot]["consumer"] = ERASED
            state[field] = np.frombuffer(msgspec.msgpack.encode(names), np.uint8)
            beside = f"{field.removesuffix('names')}keys"
            if beside in state:
                keys = state[beside].copy()
                keys[[int(slot) for slot in mine]] = [secrets.randbits(64) | 1 for _ in mine]
                state[beside] = keys
    return count
