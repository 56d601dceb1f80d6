"""Makes a picture small: pixels in, a PNG with a palette of at most 256 colours out (PNG, third edition, 11.2)."""

import struct
import zlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

COLOURS_MAX: Final = 256
_CHUNK: Final = 2_048  # Colours that are compared with the palette at once.


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """`pixels`: (height, width, 3 or more) of red, green, blue; more is ignored. Rare colours become the nearest of the
    most frequent ones."""
    height, width = pixels.shape[:2]
    rgb = pixels[..., :3].astype(np.uint32)
    packed = (rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2]).ravel()
    colours, places, counts = np.unique(packed, return_inverse=True, return_counts=True)
    kept = colours[np.argsort(-counts, kind="stable")[:COLOURS_MAX]]
    indexes = _find_nearest(_split(colours), _split(kept))[places].astype(np.uint8)
    rows = np.zeros((height, width + 1), np.uint8)  # The first byte of a row is its filter: none.
    rows[:, 1:] = indexes.reshape(height, width)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            _chunk(b"PLTE", _split(kept).astype(np.uint8).tobytes()),
            _chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)),
            _chunk(b"IEND", b""),
        )
    )


def _split(packed: NDArray[np.uint32]) -> NDArray[np.int32]:
    return np.stack((packed >> 16, packed >> 8 & 255, packed & 255), axis=1).astype(np.int32)


def _find_nearest(colours: NDArray[np.int32], palette: NDArray[np.int32]) -> NDArray[np.intp]:
    found = [
        ((colours[start : start + _CHUNK, None, :] - palette[None, :, :]) ** 2).sum(axis=2).argmin(axis=1)
        for start in range(0, len(colours), _CHUNK)
    ]
    return np.concatenate(found)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
