"""A rule on names of fields: which names, and which values under them."""

from collections.abc import Callable
from dataclasses import dataclass

from sensor.classify.sensitive.kinds import DataKind


@dataclass(frozen=True, slots=True, kw_only=True)
class NameRule:
    """One kind: names that end in one of `endings` (whole words), with none of `unless`, and values that `fit`."""

    kind: DataKind
    endings: tuple[tuple[str, ...], ...]
    fits: Callable[[object], bool]
    unless: frozenset[str] = frozenset()


def list_endings(names: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(name.split()) for name in names.split(","))
