"""The names that the kernel may skip or must fold in: judged by `sensor.recognition.names`, kept in the kernel's
buckets.

A bucket holds a few names. When it is full, the name that was taught there first gives way; the ones told at the
start never do. A name that gave way makes its calls unknown again, and so is soon back.
"""

import struct
from enum import Enum, auto
from typing import Final

from sensor.kernel import hashes
from sensor.kernel.abi import NAME_WAYS
from sensor.recognition.heads import PlainHead
from sensor.recognition.mirror import MapName, Mirror
from sensor.recognition.names import NameJudge, judge_parameter

_BUCKET: Final = struct.Struct(f"<{NAME_WAYS}Q")
_INDEX: Final = struct.Struct("<I")
# As `sensor.classify` reads them.
_PARAMETERS_MAX: Final = 200
# Longer names are left to user space: whoever invents them only fills buckets.
_NAME_BYTES_MAX: Final = 64
_JUDGED_MAX: Final = 2_048


class Lesson(Enum):
    """What the kernel knew of a head's names when it read the head."""

    KNOWN = auto()  # All that can be known: its profile stands for all that Python reads.
    NEW = auto()  # Not all: the next head like it has another profile.
    OPEN = auto()  # Some parameter says nothing by itself, and never will.


class NameTable:
    """The names taught so far. Not thread-safe."""

    __slots__ = ("_buckets", "_fixed", "_judge", "_judged", "_known", "_mirror", "evicted_count", "seed")

    def __init__(self, mirror: Mirror, judge: NameJudge, *, seed: int) -> None:
        """Tells the initial names at once. `seed`: of name hashes, as the kernel has it in its settings."""
        self._mirror = mirror
        self._judge = judge
        self.seed = seed
        self._buckets: dict[int, list[int]] = {}
        self._judged: dict[bytes, tuple[int, int]] = {}
        self._known: set[int] = set()  # Entries, kinds included.
        self._fixed: dict[int, int] = {}  # Entries of a bucket that never give way: they are its first.
        self.evicted_count = 0
        for name, kind in judge.initial_headers():
            if self._add(hashes.hash_header_name(seed, name), kind):
                bucket = hashes.find_bucket(hashes.hash_header_name(seed, name))
                self._fixed[bucket] = self._fixed.get(bucket, 0) + 1

    def __len__(self) -> int:
        return len(self._known)

    def teach(self, head: PlainHead) -> Lesson:
        """Has the kernel know the names of a head, as far as they say something by themselves."""
        is_new = False
        for name in head.header_names:
            name_hash, kind = self._judged.get(name) or self._judge_header(name)
            if kind and name_hash & ~0xFF | kind not in self._known:
                is_new |= self._add(name_hash, kind)
        is_open = False
        if head.query:
            pairs = head.query.split(b"&")
            is_open = len(pairs) > _PARAMETERS_MAX
            for pair in () if is_open else pairs:
                name = pair.partition(b"=")[0]
                parameter = judge_parameter(name.decode("latin-1")) if len(name) <= _NAME_BYTES_MAX else None
                if parameter is None:
                    is_open = True
                else:
                    is_new |= self._add(hashes.hash_parameter_name(self.seed, name), parameter)
        if is_open:
            return Lesson.OPEN
        return Lesson.NEW if is_new else Lesson.KNOWN

    def _judge_header(self, name: bytes) -> tuple[int, int]:
        """Hash and kind (0: none) of a field's name; remembered, as a judgement takes some microseconds."""
        kind = self._judge.judge_header(name) if len(name) <= _NAME_BYTES_MAX else None
        judged = (hashes.hash_header_name(self.seed, name), int(kind or 0))
        if len(self._judged) >= _JUDGED_MAX:
            self._judged.clear()
        self._judged[name] = judged
        return judged

    def _add(self, name_hash: int, kind: int) -> bool:
        entry = name_hash & ~0xFF | kind
        if entry in self._known:
            return False
        index = hashes.find_bucket(name_hash)
        bucket = self._buckets.setdefault(index, [])
        if len(bucket) >= NAME_WAYS:
            fixed = self._fixed.get(index, 0)
            if fixed >= NAME_WAYS:
                return False
            self._known.discard(bucket.pop(fixed))
            self.evicted_count += 1
        bucket.append(entry)
        self._known.add(entry)
        padded = bucket + [0] * (NAME_WAYS - len(bucket))
        self._mirror.write(MapName.NAMES, {_INDEX.pack(index): _BUCKET.pack(*padded)})
        return True
