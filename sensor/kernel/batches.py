"""bpf(2) for many elements of a map at once: written, removed, or taken out (Documentation/bpf/maps.rst, batch
operations).

A call that stops in the middle says how far it came. A key that is not there stops a removal, and is stepped over.
"""

import ctypes
import errno
import os
import struct
from collections.abc import Iterable, Mapping

from sensor.kernel.syscalls import call_bpf

_LOOKUP_AND_DELETE_BATCH = 25
_UPDATE_BATCH = 26
_DELETE_BATCH = 27
# in_batch, out_batch, keys, values, count, map_fd, elem_flags, flags.
_ATTRIBUTES = struct.Struct("<QQQQIIQQ")
_COUNT_OFFSET = 32


class _Batch:
    """The attributes of one call; `count` is what the kernel did."""

    def __init__(self, map_fd: int, keys: ctypes.Array[ctypes.c_char], values: ctypes.Array[ctypes.c_char] | None):
        self._fd = map_fd
        self._keys = keys
        self._values = values
        self._token = ctypes.create_string_buffer(8)
        self.count = 0

    def run(self, command: int, count: int, *, key_offset: int = 0, value_offset: int = 0) -> int:
        """The error number, 0 where all `count` were done."""
        attributes = ctypes.create_string_buffer(
            _ATTRIBUTES.pack(
                0,
                ctypes.addressof(self._token),
                ctypes.addressof(self._keys) + key_offset,
                ctypes.addressof(self._values) + value_offset if self._values is not None else 0,
                count,
                self._fd,
                0,
                0,
            ),
            _ATTRIBUTES.size,
        )
        code = call_bpf(command, attributes)
        self.count = struct.unpack_from("<I", attributes.raw, _COUNT_OFFSET)[0]
        return code


def update_batch(map_fd: int, elements: Mapping[bytes, bytes]) -> None:
    """Writes all elements; raises OSError where the map is full or the kernel refuses."""
    keys = ctypes.create_string_buffer(b"".join(elements), sum(map(len, elements)))
    values = ctypes.create_string_buffer(b"".join(elements.values()), sum(map(len, elements.values())))
    code = _Batch(map_fd, keys, values).run(_UPDATE_BATCH, len(elements))
    if code:
        raise OSError(code, f"writing {len(elements)} elements to a map failed: {os.strerror(code)}")


def delete_batch(map_fd: int, keys: Iterable[bytes]) -> None:
    """Removes all keys; those that are not there are no error."""
    rows = list(keys)
    if not rows:
        return
    size = len(rows[0])
    batch = _Batch(map_fd, ctypes.create_string_buffer(b"".join(rows), size * len(rows)), None)
    done = 0
    while done < len(rows):
        code = batch.run(_DELETE_BATCH, len(rows) - done, key_offset=done * size)
        if code not in (0, errno.ENOENT):
            raise OSError(code, f"removing {len(rows)} elements of a map failed: {os.strerror(code)}")
        done += batch.count + (code == errno.ENOENT)


def take_batch(map_fd: int, key_size: int, value_size: int, limit: int) -> list[tuple[bytes, bytes]]:
    """All (key, value) of a hash map of at most `limit` elements, which is empty afterwards but for what came since."""
    keys = ctypes.create_string_buffer(key_size * limit)
    values = ctypes.create_string_buffer(value_size * limit)
    batch = _Batch(map_fd, keys, values)
    code = batch.run(_LOOKUP_AND_DELETE_BATCH, limit)
    if code not in (0, errno.ENOENT):  # ENOENT: the end of the map was reached.
        raise OSError(code, f"taking the elements of a map failed: {os.strerror(code)}")
    raw_keys, raw_values = keys.raw, values.raw
    return [
        (raw_keys[i * key_size : (i + 1) * key_size], raw_values[i * value_size : (i + 1) * value_size])
        for i in range(batch.count)
    ]
