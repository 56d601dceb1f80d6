"""The detectors' state as one file: arrays without pickle, and the position in the log.

It is a compressed .npz archive, written column by column, because most of a state is zeros and similar names. The file
is replaced as a whole (written aside, synced, renamed). So a crash leaves the old or the new state, each with its own
position. After a restart the detectors go on exactly where the state ends, whatever the log's cursor is.
"""

import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

import numpy as np

from collector.detection.catch_up import CatchUp
from collector.detection.framework.state import DetectorState
from collector.detection.read_boundaries import Jumps
from collector.receiver.segment import Position
from common.durable import write_durably

VERSION = 13
_JUMPS, _CATCH_UP = "jumps.", "catch_up."
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
    """Where the state stands: everything before `position` is in it, but for what waits in `catch_up`; the next signal
    is number `next_signal`."""

    position: Position
    next_signal: int
    jumps: Jumps = field(default_factory=Jumps, compare=False)
    catch_up: CatchUp = field(default_factory=CatchUp, compare=False)


def save_checkpoint(path: Path, engine: DetectorState, checkpoint: Checkpoint) -> int:
    """Replace the file; gives its bytes. Raises OSError, after which the old one is there and nothing beside it."""
    write_durably(path, lambda file: write_state(file, engine, checkpoint))
    return path.stat().st_size


def load_checkpoint(path: Path, engine: DetectorState) -> Checkpoint | None:
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


def write_state(file: IO[bytes], engine: DetectorState, checkpoint: Checkpoint) -> None:
    """One .npz archive; equal states give equal bytes. Raises OSError."""
    at = np.array([checkpoint.position.segment, checkpoint.position.offset, checkpoint.next_signal])
    saved = {"version": np.array([VERSION]), "at": at} | checkpoint.jumps.dump(_JUMPS)
    saved |= checkpoint.catch_up.dump(_CATCH_UP) | engine.dump()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=_COMPRESSION_LEVEL) as archive:
        for name, array in saved.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as column:
                np.lib.format.write_array(column, np.asanyarray(array), allow_pickle=False)


def read_state(file: IO[bytes], engine: DetectorState) -> Checkpoint:
    """The inverse; `engine` is new and of the same limits. Raises CheckpointVersionError, StateError, and whatever a
    damaged archive leads to."""
    with np.load(file, allow_pickle=False) as archive:
        version = int(archive["version"][0])
        if version != VERSION:
            raise CheckpointVersionError(version)
        saved = {name: archive[name] for name in archive.files}
    segment, offset, next_signal = (int(value) for value in saved.pop("at"))
    jumps, catch_up = Jumps(), CatchUp()
    jumps.load(saved, _JUMPS)
    catch_up.load(saved, _CATCH_UP)
    others = "version", _JUMPS, _CATCH_UP
    engine.load({name: array for name, array in saved.items() if not name.startswith(others)})
    return Checkpoint(position=Position(segment, offset), next_signal=next_signal, jumps=jumps, catch_up=catch_up)


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
