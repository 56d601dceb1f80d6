"""A state of the detectors as bytes, for tests that keep one."""

from io import BytesIO
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from collector.detection.checkpoint import Checkpoint, read_arrays, read_state, write_state
from collector.detection.engine import Engine


def encode_state(engine: Engine, checkpoint: Checkpoint) -> bytes:
    """The file's bytes."""
    file = BytesIO()
    write_state(file, engine, checkpoint)
    return file.getvalue()


def decode_state(content: bytes, engine: Engine) -> Checkpoint:
    """The inverse, into a new engine."""
    return read_state(BytesIO(content), engine)


def read_columns(state: bytes) -> bytes:
    """All that is in a state, as it was before it was compressed."""
    return b"".join(array.tobytes() for _, array in read_arrays(BytesIO(state)))


def list_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """What a file of a state holds."""
    with path.open("rb") as file:
        return dict(read_arrays(file))
