"""The engine's state as one file: arrays without pickle, names as MessagePack, and the place in the log they belong to.

The file is replaced as a whole (written aside, synced, renamed), so a crash leaves the old or the new state, each
with its own position: after a restart the detectors go on exactly where the state ends, whatever the log's cursor
says.
"""

import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from collector.anomaly.detectors.contract import State
from collector.anomaly.engine import Engine
from collector.ingest.reader import write_durably
from collector.ingest.segment import Position

VERSION = 11
# Steady callers and volume by service are learnt anew where a state has none, of 11 too.
# 10 has no errors and latency, 9 other measures of 5 min windows too, 8 also longer rings of open windows.
_READABLE = frozenset({8, 9, 10, VERSION})
_JUMPS = "jumps"


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
    jumps: State = field(default_factory=dict)  # Of collector/anomaly/jumps.py; a state of before has none.


def save_checkpoint(path: Path, engine: Engine, checkpoint: Checkpoint) -> None:
    """Replace the file. Raises OSError."""
    write_durably(path, encode_state(engine, checkpoint))


def load_checkpoint(path: Path, engine: Engine) -> Checkpoint | None:
    """Fill a new engine from the file; None where there is none. Raises CheckpointError (CheckpointVersionError where
    another version wrote it) after which the engine may be filled in part, and OSError."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        return decode_state(content, engine)
    except (CheckpointError, MemoryError):  # Where there is no room the state is as good as it was.
        raise
    except Exception as error:  # A damaged archive makes its readers raise more than they say.
        raise CheckpointError(
            f"detector state {path} cannot be read ({type(error).__name__}: {error}); "
            "move it aside to let the detectors learn anew"
        ) from error


def encode_state(engine: Engine, checkpoint: Checkpoint) -> bytes:
    """One .npz archive; equal states give equal arrays."""
    arrays: dict[str, NDArray[np.generic]] = {
        "version": np.array([VERSION]),
        "at": np.array([checkpoint.position.segment, checkpoint.position.offset, checkpoint.next_signal]),
    }
    for prefix, state in {**engine.dump(), _JUMPS: checkpoint.jumps}.items():
        arrays |= {f"{prefix}/{name}": array for name, array in state.items()}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def decode_state(content: bytes, engine: Engine) -> Checkpoint:
    """The inverse; `engine` is new and of the same limits. Raises CheckpointVersionError, and whatever a damaged
    archive leads to."""
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        version = int(archive["version"][0])
        if version not in _READABLE:
            raise CheckpointVersionError(version)
        states: dict[str, dict[str, NDArray[np.generic]]] = {}
        for name in archive.files:
            prefix, _, field = name.rpartition("/")
            states.setdefault(prefix, {})[field] = archive[name]
        segment, offset, next_signal = (int(value) for value in archive["at"])
    engine.load(states)
    return Checkpoint(position=Position(segment, offset), next_signal=next_signal, jumps=states.get(_JUMPS, {}))
