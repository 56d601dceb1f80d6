"""Parts of a detector's state as one: arrays named `part.name`."""

import numpy as np

from collector.anomaly.detectors.contract import State
from collector.anomaly.subjects import Subjects

_NAMES = "names"


def join(parts: dict[str, State]) -> State:
    """All arrays of all parts."""
    return {f"{part}.{name}": array for part, state in parts.items() for name, array in state.items()}


def split(state: State) -> dict[str, State]:
    """The inverse of `join`."""
    parts: dict[str, State] = {}
    for name, array in state.items():
        part, _, rest = name.partition(".")
        parts.setdefault(part, {})[rest] = array
    return parts


def dump_subjects(subjects: Subjects) -> State:
    """A table with its names."""
    arrays, names = subjects.dump()
    return {**arrays, _NAMES: np.frombuffer(names, np.uint8)}


def load_subjects(subjects: Subjects, state: State) -> None:
    """The inverse of `dump_subjects`."""
    subjects.load(state, state[_NAMES].tobytes())
