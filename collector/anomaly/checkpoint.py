"""The engine's state as one file: arrays without pickle, names as MessagePack, and the place in the log they belong to.

It is a compressed .npz archive, written column by column: most of a state is zeros and names that are alike. The file
is replaced as a whole (written aside, synced, renamed), so a crash leaves the old or the new state, each with its own
position: after a restart the detectors go on exactly where the state ends, whatever the log's cursor says.
"""

import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

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
    jumps: State = field(default_factory=dict)  # Of collector/anomaly/jumps.py; a state of before has none.


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
            prefix, _, field = name.rpartition("/")
            states.setdefault(prefix, {})[field] = archive[name]
        segment, offset, next_signal = (int(value) for value in archive["at"])
    engine.load(states)
    return Checkpoint(position=Position(segment, offset), next_signal=next_signal, jumps=states.get(_JUMPS, {}))
