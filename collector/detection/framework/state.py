"""What a detector learned: named columns by slot that grow, forget, save and load themselves.

A class of state names what it keeps in its body:

    class Levels(DetectorState):
        level = column(np.float64)  # A figure for each slot.
        hours = column(np.float32, 24)  # 24 figures for each slot.
        day = number(0)

An instance has NumPy arrays and numbers under these names. `SlotTable.follow` lets its columns grow and forget with the
table (collector/detection/framework/slots.py). `parts` and `slot_parts` name the attributes that are states themselves.

A saved state is one dict of arrays, `part.part.name`. Loading is strict: each array must be there, with the type and
the shape that this program would save.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
U64 = NDArray[np.uint64]
Bools = NDArray[np.bool_]
Slots = NDArray[np.int64]
Arrays = dict[str, NDArray[np.generic]]

_Scalar = TypeVar("_Scalar", bound=np.generic)
_T = TypeVar("_T")


class StateError(ValueError):
    """A saved state does not fit this program; the message names the array."""


@dataclass(frozen=True, slots=True)
class _Column:
    dtype: type[np.generic]
    heights: tuple[int | str, ...]
    fill: float | str
    is_slot_first: bool

    def lengthen(self, array: NDArray[Any], size: int, given: Mapping[str, Any]) -> NDArray[Any]:
        if self.is_slot_first:
            return grow_rows(array, size)
        return grow(array, size, given.get(self.fill, self.fill) if isinstance(self.fill, str) else self.fill)

    def clear(self, array: NDArray[Any], slots: Slots, given: Mapping[str, Any]) -> None:
        array[slots if self.is_slot_first else (..., slots)] = (
            given[self.fill] if isinstance(self.fill, str) else self.fill
        )

    def list_shape(self, size: int, given: Mapping[str, Any]) -> tuple[int, ...]:
        heights = tuple(given[height] if isinstance(height, str) else height for height in self.heights)
        return (size, *heights) if self.is_slot_first else (*heights, size)


@dataclass(frozen=True, slots=True)
class _Array:
    dtype: type[np.generic]


@dataclass(frozen=True, slots=True)
class _Number:
    default: int | float | bool


@dataclass(frozen=True, slots=True)
class _Record:
    kind: Any
    make: Callable[[], Any]


def column(
    dtype: type[_Scalar], *heights: int | str, fill: float | str = 0, is_slot_first: bool = False
) -> NDArray[_Scalar]:
    """An array by slot. `heights`: so many figures for each slot; a name stands for what the constructor of the state
    is given under it, as it does for `fill`, the value of a slot that nothing is known of. `is_slot_first`: the figures
    of a slot lie side by side in memory; these are filled with 0."""
    made: Any = _Column(dtype, heights, fill, is_slot_first)
    return made  # type: ignore[no-any-return]


def array(dtype: type[_Scalar]) -> NDArray[_Scalar]:
    """An array of any length, empty at first, that is not by slot."""
    made: Any = _Array(dtype)
    return made  # type: ignore[no-any-return]


def number(default: _T) -> _T:
    """An int, float or bool."""
    made: Any = _Number(default)  # type: ignore[arg-type]
    return made  # type: ignore[no-any-return]


def record(kind: type[_T]) -> _T:
    """A dict, list or set of plain values, empty at first; checked by its type when it is loaded."""
    made: Any = _Record(kind, getattr(kind, "__origin__", kind))
    return made  # type: ignore[no-any-return]


class DetectorState:
    """Columns of `size` slots, and what else a subclass names."""

    # Attributes that hold a state, a dict of states by their names, or None: those of the same slots, and others.
    slot_parts: ClassVar[tuple[str, ...]] = ()
    parts: ClassVar[tuple[str, ...]] = ()
    has_own_size = False  # No table says how many slots there are: loaded columns do.
    _columns: ClassVar[dict[str, _Column]] = {}
    _others: ClassVar[dict[str, _Array | _Number | _Record]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        named = {name: value for base in reversed(cls.__mro__) for name, value in vars(base).items()}
        cls._columns = {name: value for name, value in named.items() if isinstance(value, _Column)}
        cls._others = {name: value for name, value in named.items() if isinstance(value, _Array | _Number | _Record)}

    def __init__(self, **given: Any) -> None:
        """`given`: heights and fills that columns name."""
        self.size = 0
        self._given = given
        for name, one in self._columns.items():
            setattr(self, name, np.zeros(one.list_shape(0, given), one.dtype))
        for name, other in self._others.items():
            match other:
                case _Array():
                    setattr(self, name, np.zeros(0, other.dtype))
                case _Number():
                    setattr(self, name, other.default)
                case _Record():
                    setattr(self, name, other.make())

    def grow(self, size: int) -> None:
        """Make room for slots below `size`."""
        if size > self.size:
            self.size = size
            for name, one in self._columns.items():
                setattr(self, name, one.lengthen(getattr(self, name), size, self._given))
            for _, part in self._list_parts(self.slot_parts):
                part.grow(size)

    def forget(self, slots: Slots) -> None:
        """Nothing is known of these slots any more."""
        for name, one in self._columns.items():
            one.clear(getattr(self, name), slots, self._given)
        for _, part in self._list_parts(self.slot_parts):
            part.forget(slots)

    def _list_parts(self, names: tuple[str, ...]) -> Iterator[tuple[str, "DetectorState"]]:
        for name in names:
            value = getattr(self, name)
            if isinstance(value, DetectorState):
                yield name.strip("_"), value
            elif value is not None:
                yield from ((f"{name.strip('_')}.{key}", part) for key, part in value.items())

    def walk(self) -> Iterator["DetectorState"]:
        """This state and all that it is made of."""
        yield self
        for _, part in self._list_parts(self.parts + self.slot_parts):
            yield from part.walk()

    def dump(self, path: str = "") -> Arrays:
        """All arrays, under names that begin with `path`. They are not copied."""
        saved: Arrays = {}
        for name, part in self._list_parts(self.parts + self.slot_parts):
            saved |= part.dump(f"{path}{name}.")
        saved |= {f"{path}{name.strip('_')}": getattr(self, name) for name in self._columns}
        for name, other in self._others.items():
            value = getattr(self, name)
            match other:
                case _Number():
                    value = np.array([value], np.array([other.default]).dtype)
                case _Record():
                    value = np.frombuffer(msgspec.msgpack.encode(value), np.uint8)
            saved[f"{path}{name.strip('_')}"] = value
        return saved

    def load(self, saved: Mapping[str, NDArray[np.generic]], path: str = "") -> None:
        """The inverse of `dump`. Raises StateError, after which the state may be loaded in part."""
        for name, part in self._list_parts(self.parts + self.slot_parts):
            part.load(saved, f"{path}{name}.")
        if self.has_own_size:
            name, one = next(iter(self._columns.items()))
            DetectorState.grow(self, _count(saved.get(f"{path}{name.strip('_')}"), one))
        for name, one in self._columns.items():
            shape = one.list_shape(self.size, self._given)
            setattr(self, name, _read(saved, f"{path}{name.strip('_')}", one.dtype, shape))
        for name, other in self._others.items():
            key = f"{path}{name.strip('_')}"
            match other:
                case _Array():
                    setattr(self, name, _read(saved, key, other.dtype, None))
                case _Number():
                    value = _read(saved, key, np.array([other.default]).dtype.type, (1,)).item()
                    setattr(self, name, value)
                case _Record():
                    setattr(self, name, _decode(saved, key, other.kind))


def _count(found: NDArray[np.generic] | None, one: _Column) -> int:
    """Slots of a saved column."""
    return found.shape[0 if one.is_slot_first else -1] if found is not None and found.ndim else 0


def _read(
    saved: Mapping[str, NDArray[np.generic]], key: str, dtype: type[np.generic], shape: tuple[int, ...] | None
) -> NDArray[Any]:
    """A copy of one array; of any length where there is no `shape`."""
    found = saved.get(key)
    if found is None:
        raise StateError(f"{key} is missing")
    expected = f"{np.dtype(dtype)}{list(shape) if shape is not None else ' of one dimension'}"
    if found.dtype != dtype or (found.shape != shape if shape is not None else found.ndim != 1):
        raise StateError(f"{key} is {found.dtype}{list(found.shape)}; expected {expected}")
    return np.array(found, order="C")


def _decode(saved: Mapping[str, NDArray[np.generic]], key: str, kind: Any) -> Any:
    try:
        return msgspec.msgpack.decode(_read(saved, key, np.uint8, None).tobytes(), type=kind)
    except msgspec.DecodeError as error:
        raise StateError(f"{key} cannot be decoded: {error}") from error


def grow(array: NDArray[_Scalar], length: int, fill: Any = 0) -> NDArray[_Scalar]:
    """`array` with its last axis lengthened to `length`, new places holding `fill`."""
    known = array.shape[-1]
    if known >= length:
        return array
    # Zeros that nothing was written to take no memory yet.
    longer = np.zeros((*array.shape[:-1], length), array.dtype)
    longer[..., :known] = array
    if np.any(fill):
        longer[..., known:] = fill
    return longer


def grow_rows(array: NDArray[_Scalar], length: int) -> NDArray[_Scalar]:
    """`array` with its first axis lengthened to `length`, new places holding 0."""
    if len(array) >= length:
        return array
    longer = np.zeros((length, *array.shape[1:]), array.dtype)
    longer[: len(array)] = array
    return longer
