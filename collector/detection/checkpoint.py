"""The detectors' state as one file: arrays without pickle, and the position in the log.

It is one gzip stream (RFC 1952), because most of a state is zeros and similar names: the length of a list, the list of
names, types and shapes as MessagePack, then the bytes of all arrays. A state has a thousand arrays, and what an archive
adds to each was more than what is in them. Earlier versions wrote .npz archives, which are still read.

The file is replaced as a whole (written aside, synced, renamed). So a crash leaves the old or the new state, each with
its own position. After a restart the detectors go on exactly where the state ends, whatever the log's cursor is.
"""

import gzip
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from collector.detection.catch_up import CatchUp
from collector.detection.framework.state import Arrays, DetectorState
from collector.detection.read_boundaries import Jumps
from collector.log.base import Position
from common.durable import write_durably

VERSION = 14
_JUMPS, _CATCH_UP = "jumps.", "catch_up."
# Of zlib, 1 to 9: a larger state is compressed faster, for nothing is evaluated meanwhile.
_COMPRESSION_LEVEL, _FAST_LEVEL, _LARGE_BYTES = 6, 1, 32 * 1024 * 1024
_GZIP: Final = b"\x1f\x8b"  # What a stream begins with.
_LENGTH_BYTES: Final = 4


class _Column(msgspec.Struct, array_like=True):
    """One array of the stream."""

    name: str
    dtype: str
    shape: tuple[int, ...]


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
    is number `next_signal` of those counted since `learnt_from`, where the detectors began to learn."""

    position: Position
    next_signal: int
    learnt_from: Position = field(default_factory=lambda: Position(0, 0))
    jumps: Jumps = field(default_factory=Jumps, compare=False)
    catch_up: CatchUp = field(default_factory=CatchUp, compare=False)


def encode_state(engine: DetectorState, checkpoint: Checkpoint) -> bytes:
    """As `write_state`."""
    file = io.BytesIO()
    write_state(file, engine, checkpoint)
    return file.getvalue()


def save_checkpoint(path: Path, engine: DetectorState, checkpoint: Checkpoint) -> int:
    """Replace the file; gives its bytes. Raises OSError, after which the old one is there and nothing beside it."""
    write_durably(path, lambda file: write_state(file, engine, checkpoint))
    return path.stat().st_size


def load_checkpoint(path: Path, engine: DetectorState) -> Checkpoint | None:
    """Fill a new engine from the file; None where there is none. Raises CheckpointError (CheckpointVersionError where
    another version wrote it) after which the engine may be filled in part, and OSError."""
    try:
        with path.open("rb") as file:
            return check_state(file, engine, str(path))
    except FileNotFoundError:
        return None


def check_state(file: IO[bytes], engine: DetectorState, place: str) -> Checkpoint:
    """As `read_state`; raises CheckpointError, which names the place, where it cannot be read."""
    try:
        return read_state(file, engine)
    except (CheckpointError, MemoryError):  # Where there is no room the state is as good as it was.
        raise
    except Exception as error:  # Damaged bytes make their readers raise more than they say.
        raise CheckpointError(
            f"detector state {place} cannot be read ({type(error).__name__}: {error}); "
            "move it aside to let the detectors learn anew"
        ) from error


def write_state(file: IO[bytes], engine: DetectorState, checkpoint: Checkpoint) -> None:
    """Equal states give equal bytes. Raises OSError."""
    begun = checkpoint.learnt_from
    at = np.array(
        [
            checkpoint.position.segment,
            checkpoint.position.offset,
            checkpoint.next_signal,
            begun.segment,
            begun.offset,
        ]
    )
    saved = {"version": np.array([VERSION]), "at": at} | checkpoint.jumps.dump(_JUMPS)
    saved |= checkpoint.catch_up.dump(_CATCH_UP) | engine.dump()
    listed = msgspec.msgpack.encode([_Column(name, array.dtype.str, array.shape) for name, array in saved.items()])
    level = _COMPRESSION_LEVEL if sum(array.nbytes for array in saved.values()) < _LARGE_BYTES else _FAST_LEVEL
    with gzip.GzipFile(filename="", mode="wb", compresslevel=level, fileobj=file, mtime=0) as stream:
        stream.write(len(listed).to_bytes(_LENGTH_BYTES, "little") + listed)
        for array in saved.values():
            stream.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8))


def read_state(file: IO[bytes], engine: DetectorState) -> Checkpoint:
    """The inverse; `engine` is new and of the same limits. Raises CheckpointVersionError, StateError, and whatever
    damaged bytes lead to."""
    saved: Arrays = {}
    for name, array in read_arrays(file):
        if name == "version" and array[0] != VERSION:  # It is the first.
            raise CheckpointVersionError(int(array[0]))
        saved[name] = array
    segment, offset, next_signal, *begun = (int(value) for value in saved.pop("at"))
    jumps, catch_up = Jumps(), CatchUp()
    jumps.load(saved, _JUMPS)
    catch_up.load(saved, _CATCH_UP)
    others = "version", _JUMPS, _CATCH_UP
    engine.load({name: array for name, array in saved.items() if not name.startswith(others)})
    return Checkpoint(
        position=Position(segment, offset),
        next_signal=next_signal,
        learnt_from=Position(*begun) if begun else Position(0, 0),  # Earlier versions did not say.
        jumps=jumps,
        catch_up=catch_up,
    )


def read_arrays(file: IO[bytes]) -> Iterator[tuple[str, NDArray[Any]]]:
    """What a file holds, by name. Raises whatever damaged bytes lead to."""
    start = file.read(len(_GZIP))
    file.seek(0)
    if start != _GZIP:
        with np.load(file, allow_pickle=False) as archive:
            yield from archive.items()
        return
    with gzip.GzipFile(fileobj=file, mode="rb") as stream:
        length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
        for column in msgspec.msgpack.decode(stream.read(length), type=list[_Column]):
            array = np.zeros(column.shape, np.dtype(column.dtype))
            if array.dtype.hasobject or stream.readinto(array.reshape(-1).view(np.uint8)) != array.nbytes:
                raise ValueError(f"{column.name} is not all there")
            yield column.name, array
        if stream.read(1):  # This compares the checksum, too.
            raise ValueError("there is more behind the last column")


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
    with path.open("rb") as file:
        return may_name(file, consumer)


def may_name(file: IO[bytes], consumer: bytes) -> bool:
    """Whether a state names a consumer; of one that cannot be read nobody knows. Raises OSError."""
    try:
        return any(consumer in array.tobytes() for _, array in read_arrays(file))
    except gzip.BadGzipFile:
        return True
    except OSError:
        raise
    except Exception:  # Damaged bytes make their reader raise more than it says.
        return True
