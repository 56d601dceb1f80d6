"""Sizes of compressed bodies."""

import gzip
import zlib

import pytest

from sensor.http.http1 import pairs as decoded_size
from sensor.http.http1.pairs import make_decoded_size

TEXT = b"some text that repeats, " * 1_000


def compress_raw(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


@pytest.mark.parametrize(
    ("coding", "data"),
    [(b"gzip", gzip.compress(TEXT)), (b" X-GZIP", gzip.compress(TEXT)), (b"deflate", zlib.compress(TEXT)),
     (b"deflate", compress_raw(TEXT))],
)  # fmt: skip
@pytest.mark.parametrize("step", [7, 100_000])
def test_size_of_a_body(coding: bytes, data: bytes, step: int) -> None:
    size = make_decoded_size(coding)
    assert size is not None
    for at in range(0, len(data), step):
        size.feed(data[at : at + step])
    assert size.size_bytes == len(TEXT)


def test_what_is_not_what_it_says_has_no_size() -> None:
    size = make_decoded_size(b"gzip")
    assert size is not None
    size.feed(b"\xff" * 100)
    size.feed(b"\xff" * 100)
    assert size.size_bytes is None
    assert make_decoded_size(b"br") is make_decoded_size(None) is None


def test_a_bomb_has_no_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoded_size, "MAX_DECODED_BYTES", 1 << 20)
    size = make_decoded_size(b"gzip")
    assert size is not None
    size.feed(gzip.compress(bytes(2 << 20)))
    assert size.size_bytes is None
