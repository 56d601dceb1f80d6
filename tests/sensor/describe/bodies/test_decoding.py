"""Codings undone: whole, cut anywhere, broken, and bombs stopped at the bound."""

import gzip
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor.describe.bodies.decoding import DECODED_BYTES_MAX, decode
from tests.sensor.describe.bodies.messages import ENCODERS

BODY = b'{"items": [' + b",".join(b'{"id": %d, "mail": "u%d@example.org"}' % (i, i) for i in range(5_000)) + b"]}"
assert len(BODY) < DECODED_BYTES_MAX


@pytest.mark.parametrize("coding", ENCODERS)
def test_whole(coding: str) -> None:
    decoded = decode(ENCODERS[coding](BODY), coding.encode(), is_complete=True)
    assert (decoded.data, decoded.is_complete, decoded.fault) == (BODY, True, "")


@pytest.mark.parametrize("coding", ENCODERS)
def test_a_prefix_gives_a_prefix(coding: str) -> None:
    encoded = ENCODERS[coding](BODY)
    decoded = decode(encoded[: len(encoded) * 19 // 20], coding.encode(), is_complete=False)
    assert BODY.startswith(decoded.data)
    assert not decoded.is_complete
    assert len(decoded.data) > 1_000


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "gzip, br", "identity"])
def test_a_bomb_stops_at_the_bound(coding: str) -> None:
    bomb = ENCODERS[coding](bytes(64 << 20))
    tracemalloc.start()
    decoded = decode(bomb, coding.encode(), is_complete=True)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (len(decoded.data), decoded.is_complete, decoded.fault) == (DECODED_BYTES_MAX, False, "decoded_limit")
    assert peak < 4 * DECODED_BYTES_MAX + (1 << 20)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_what_is_not_in_its_coding_is_broken(coding: str) -> None:
    decoded = decode(b"<p>x</p>" * 9, coding.encode(), is_complete=True)
    assert (decoded.data, decoded.fault) == (b"", "coding_broken")


@pytest.mark.parametrize("coding", ["compress", "gzip, gzip, gzip", "aes128gcm, gzip"])
def test_other_codings_are_not_read(coding: str) -> None:
    assert decode(b"x" * 100, coding.encode(), is_complete=True).fault == "coding_unknown"


def test_members_of_gzip_and_frames_of_zstd_follow_each_other() -> None:
    for coding in ("gzip", "zstd"):
        encode = ENCODERS[coding]
        assert decode(encode(b"one,") + encode(b"two"), coding.encode(), is_complete=True).data == b"one,two"


@given(st.binary(max_size=300), st.sampled_from(sorted(ENCODERS)), st.booleans())
def test_never_raises(data: bytes, coding: str, is_complete: bool) -> None:
    decode(data, coding.encode(), is_complete=is_complete)
    damaged = bytearray(gzip.compress(data))
    damaged[len(damaged) // 2] ^= 0x55
    decode(bytes(damaged), b"gzip", is_complete=is_complete)
