"""Pictures of the docs: a palette that loses nothing of few colours, and the nearest colour for rare ones."""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from scripts.pictures.png import COLOURS_MAX, encode_png


def read_png(data: bytes) -> NDArray[np.uint8]:
    """Decodes what `encode_png` writes."""
    chunks: dict[bytes, bytes] = {}
    place = 8
    while place < len(data):
        (size,) = struct.unpack_from(">I", data, place)
        kind, content = data[place + 4 : place + 8], data[place + 8 : place + 8 + size]
        assert struct.unpack_from(">I", data, place + 8 + size)[0] == zlib.crc32(kind + content)
        chunks[kind] = content
        place += 12 + size
    width, height, depth, colour_type = struct.unpack_from(">IIBB", chunks[b"IHDR"])
    assert (depth, colour_type) == (8, 3)
    palette = np.frombuffer(chunks[b"PLTE"], np.uint8).reshape(-1, 3)
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, width + 1)
    assert not rows[:, 0].any()
    return palette[rows[:, 1:]]


def test_few_colours_are_kept_as_they_are() -> None:
    pixels = np.arange(6 * 7 * 4, dtype=np.uint8).reshape(6, 7, 4)
    assert (read_png(encode_png(pixels)) == pixels[..., :3]).all()


def test_rare_colours_become_the_nearest_of_the_frequent_ones() -> None:
    ramp = np.arange(COLOURS_MAX, dtype=np.uint8)
    frequent = np.stack((ramp, ramp, ramp), axis=1)
    pixels = np.concatenate((frequent, frequent, [[100, 101, 100]])).astype(np.uint8)[None]
    assert read_png(encode_png(pixels))[0, -1].tolist() == [100, 100, 100]
