"""The detectors' state as one file: arrays without pickle, names as MessagePack, and the position in the log.

It is a compressed .npz archive, written column by column, because most of a state is zeros and similar names. The file
is replaced as a whole (written aside, synced, renamed). So a crash leaves the old or the new state, each with its own
position. After a restart the detectors go on exactly where the state ends, whatever the log's cursor is.

`erase_from_engine` removes one consumer: what was learned of it stays under no name, and ages. Names are MessagePack
beside the keys of their slots (collector/detection/framework/subjects.py). Both are replaced, because a key is a hash
of the name and reveals it to a guess.
"""

import secrets
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from collector.detection.engine import Engine
from collector.detection.framework.contract import State
from collector.receiver.segment import Position
from common.durable import write_durably

VERSION = 11
# Steady callers and volume by service are learnt anew where a state has none, of 11 too.
# 10 has no errors and latency, 9 other measures of 5 min windows too, 8 also longer rings of open windows.
_READABLE = frozenset({8, 9, 10, VERSION})
_JUMPS = "jumps"
_COMPRESSION_LEVEL: Final = 1  # Of zlib, 1 to 9.


class CheckpointError(Exception):
    """The file is not a checkpoint this version can read; the message names it and the fix."""


class CheckpointVersionError(CheckpointError):
    """Another version of the program wrote the file."""

    def __init__(self, version: int) -> None:
        super().__init__(f"version {version} is not {VERSION}")
        self.version = version


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Where the state stands: everything before `position` is in it; the next signal is number `next_signal`."""

    position: Position
    next_signal: int
    jumps: State = field(default_factory=dict)  # Of collector/detection/read_boundaries.py; a state of before has none.


def save_checkpoint(path: Path, engine: Engine, checkpoint: Checkpoint) -> int:
    """Replace the file; gives its bytes. Raises OSError, after which the old one is there and nothing beside it."""
    write_durably(path, lambda file: write_state(file, engine, checkpoint))
    return path.stat().st_size


def load_checkpoint(path: Path, engine: Engine) -> Checkpoint | None:
    """Fill a new engine from the file; None where there is none. Raises CheckpointError (CheckpointVersionError where
    another version wrote it) after which the engine may be filled in part, and OSError."""
    try:
        with path.open("rb") as file:
            return read_state(file, engine)
    except FileNotFoundError:
        return None
    except (CheckpointError, MemoryError):  # Where there is no room the state is as good as it was.
        raise
    except Exception as error:  # A damaged archive makes its readers raise more than they say.
        raise CheckpointError(
            f"detector state {path} cannot be read ({type(error).__name__}: {error}); "
            "move it aside to let the detectors learn anew"
        ) from error


def write_state(file: IO[bytes], engine: Engine, checkpoint: Checkpoint) -> None:
    """One .npz archive; equal states give equal bytes. Raises OSError."""
    at = [checkpoint.position.segment, checkpoint.position.offset, checkpoint.next_signal]
    own: dict[str, State] = {"": {"version": np.array([VERSION]), "at": np.array(at)}, _JUMPS: checkpoint.jumps}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=_COMPRESSION_LEVEL) as archive:
        for prefix, state in {**own, **engine.dump()}.items():
            for name, array in state.items():
                path = f"{prefix}/{name}" if prefix else name
                with archive.open(f"{path}.npy", "w", force_zip64=True) as column:
                    np.lib.format.write_array(column, np.asanyarray(array), allow_pickle=False)


def read_state(file: IO[bytes], engine: Engine) -> Checkpoint:
    """The inverse; `engine` is new and of the same limits. Raises CheckpointVersionError, and whatever a damaged
    archive leads to."""
    with np.load(file, allow_pickle=False) as archive:
        version = int(archive["version"][0])
        if version not in _READABLE:
            raise CheckpointVersionError(version)
        states: dict[str, dict[str, NDArray[np.generic]]] = {}
        for name in archive.files:
            prefix, _, key = name.rpartition("/")
            states.setdefault(prefix, {})[key] = archive[name]
        segment, offset, next_signal = (int(value) for value in archive["at"])
    engine.load(states)
    return Checkpoint(position=Position(segment, offset), next_signal=next_signal, jumps=states.get(_JUMPS, {}))


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
        for key in [key for key in state if key.rpartition(".")[2] == "names"]:
            names = msgspec.msgpack.decode(state[key].tobytes(), strict=False)
            mine = [slot for slot, one in names.items() if isinstance(one, dict) and one.get("consumer") == consumer]
            if not mine:
                continue
            count += len(mine)
            for slot in mine:
                names[slot]["consumer"] = ERASED
            state[key] = np.frombuffer(msgspec.msgpack.encode(names), np.uint8)
            beside = f"{key.removesuffix('names')}keys"
            if beside in state:
                keys = state[beside].copy()
                keys[[int(slot) for slot in mine]] = [secrets.randbits(64) | 1 for _ in mine]
                state[beside] = keys
    return count
