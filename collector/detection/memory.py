"""Where the detectors keep what they learned: in files of `data_dir`, or in the state that several collectors share.

A memory has the checkpoint, the ends of reads since it (`Cuts`), the states before jumps of time, and the batches on
which a detector failed. All methods raise
OSError. Here are the files. The shared state is in collector/detection/shared_memory.py.
"""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Final, Protocol

from collector.detection.checkpoint import Checkpoint, load_checkpoint, remove_old_states, save_checkpoint
from collector.detection.framework.state import DetectorState
from collector.detection.read_boundaries import CutJournal, Cuts
from collector.log.base import Position
from common.durable import write_durably

BEFORE: Final = "before-"  # What names of states before a jump begin with.


class LostTrackError(Exception):
    """One that follows did not read ends of the holder before they were gone: it has to begin with the checkpoint."""


class Memory(Protocol):
    """An empty name is that of the checkpoint."""

    @property
    def cuts(self) -> Cuts: ...

    place: str  # Of the checkpoint, for people.
    is_shared: bool

    def load(self, engine: DetectorState, name: str = "") -> Checkpoint | None:
        """Fill a new engine; None where there is no such state. Raises CheckpointError."""
        ...

    def save(self, engine: DetectorState, checkpoint: Checkpoint, name: str = "") -> int:
        """Replace a state; gives its bytes."""
        ...

    def begin_cuts(self, position: Position, kept: Collection[str]) -> None:
        """A checkpoint at `position` is kept; of states before jumps these are still needed."""
        ...

    def move_aside(self, suffix: str) -> str:
        """Keep a checkpoint that cannot be read; where."""
        ...

    def load_failed(self) -> frozenset[Position]:
        """Ends of batches on which a detector failed; nothing where that cannot be read."""
        ...

    def save_failed(self, ends: Collection[Position]) -> None:
        """Replace them."""
        ...

    def erase(self, consumer: str) -> None:
        """Delete what was moved aside, or was kept at a jump, and may name a consumer."""
        ...


class FileMemory:
    """Files beside the checkpoint's."""

    is_shared = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.place = str(path)
        self.cuts: Cuts = CutJournal(path.with_suffix(".cuts"))
        self._failed_path = path.with_suffix(".failed")

    def load(self, engine: DetectorState, name: str = "") -> Checkpoint | None:
        return load_checkpoint(self._locate(name), engine)

    def save(self, engine: DetectorState, checkpoint: Checkpoint, name: str = "") -> int:
        return save_checkpoint(self._locate(name), engine, checkpoint)

    def begin_cuts(self, position: Position, kept: Collection[str]) -> None:
        self.cuts.begin(position)
        for path in set(self.path.parent.glob(f"{self.path.name}.{BEFORE}*")) - {self._locate(name) for name in kept}:
            path.unlink()  # Not before: whoever goes on from the last checkpoint may need it.

    def move_aside(self, suffix: str) -> str:
        aside = self._locate(suffix)
        self.path.replace(aside)
        return str(aside)

    def load_failed(self) -> frozenset[Position]:
        try:
            return decode_failed(self._failed_path.read_bytes())
        except OSError:
            return frozenset()

    def save_failed(self, ends: Collection[Position]) -> None:
        write_durably(self._failed_path, encode_failed(ends))

    def erase(self, consumer: str) -> None:
        remove_old_states(self.path, consumer)

    def _locate(self, name: str) -> Path:
        return self.path.with_name(f"{self.path.name}.{name}") if name else self.path


def encode_failed(ends: Collection[Position]) -> bytes:
    return json.dumps(sorted((end.segment, end.offset) for end in ends)).encode()


def decode_failed(content: bytes) -> frozenset[Position]:
    try:
        return frozenset(Position(*end) for end in json.loads(content))
    except (ValueError, TypeError):
        return frozenset()
