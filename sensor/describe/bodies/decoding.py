"""Decodes bodies: undoes chunk framing and content codings (RFC 9110, section 8.4), and gives the beginning of the
result.

Codings are gzip and deflate (also without its zlib wrapper, as some servers send it), br (RFC 7932) and zstd (RFC
8878). All decoders stream, so a prefix gives a prefix. All stop at `DECODED_BYTES_MAX`, so a bomb costs what an honest
body costs.

`read_payload` uses the reader of HTTP/1 streams, so what that knows of framing holds here. Bytes after the message are
ignored.
"""

import re
import zlib
from collections.abc import Callable
from typing import Final

import brotli
import msgspec
from backports import zstd

from sensor.http.http1.grammar import Body, Expect
from sensor.http.http1.stream import Data, End, Event, Head, MessageReader

# What is looked at of one body; 64 KiB of compressed JSON are some 500 KiB.
DECODED_BYTES_MAX: Final = 256 << 10
# Codings of one message; more are an attack on whoever decodes them.
CODINGS_MAX: Final = 2
# Of zstd on the web: a decoder need not have more (RFC 9659).
_WINDOW_LOG_MAX: Final = 23
# Between two chunks: of the end of a body nobody knows where the first one of them began.
_CHUNK_LINE: Final = re.compile(rb"\r\n[0-9A-Fa-f]{1,8}[ \t]*(?:;[^\r\n]{0,64})?\r\n")
# Behind them, with its trailers.
_LAST_CHUNK: Final = re.compile(rb"\r\n0{1,8}[ \t]*(?:;[^\r\n]{0,64})?\r\n(?:[^\r\n]{1,256}\r\n){0,8}\r\n\Z")
_ZLIB_OR_GZIP: Final = 32 + zlib.MAX_WBITS
_IDENTITY: Final = frozenset((b"", b"identity"))


class Decoded(msgspec.Struct, frozen=True, gc=False):
    """The beginning of a decoded body. Private to the node."""

    data: bytes
    is_complete: bool
    # A fixed word for counters: `coding_unknown`, `coding_broken`, `decoded_limit`; empty where nothing was wrong.
    fault: str = ""

    def __repr__(self) -> str:
        return f"Decoded({len(self.data)} bytes, is_complete={self.is_complete}, fault={self.fault!r})"


def decode(data: bytes, content_encoding: bytes, *, is_complete: bool) -> Decoded:
    """Undoes the codings of a Content-Encoding value. Never raises; memory: the bound, and a window of 8 to 16 MiB."""
    codings = [coding.strip().lower() for coding in content_encoding.split(b",")]
    codings = [coding for coding in codings if coding not in _IDENTITY]
    if len(codings) > CODINGS_MAX or any(coding not in _DECODERS for coding in codings):
        return Decoded(b"", False, "coding_unknown")
    fault = ""
    if not codings:
        if len(data) > DECODED_BYTES_MAX:
            return Decoded(data[:DECODED_BYTES_MAX], False, "decoded_limit")
        return Decoded(data, is_complete)
    for coding in reversed(codings):
        try:
            data, is_ended = _DECODERS[coding](data)
        except (zlib.error, brotli.error, zstd.ZstdError, EOFError):
            return Decoded(b"", False, "coding_broken")
        if len(data) >= DECODED_BYTES_MAX:
            fault = "decoded_limit"
        is_complete = is_complete and is_ended
    return Decoded(data, is_complete and not fault, fault)


def _gunzip(data: bytes) -> tuple[bytes, bool]:
    return _inflate_as(data, _ZLIB_OR_GZIP)


def _inflate(data: bytes) -> tuple[bytes, bool]:
    try:
        return _inflate_as(data, _ZLIB_OR_GZIP)
    except zlib.error:
        return _inflate_as(data, -zlib.MAX_WBITS)


def _inflate_as(data: bytes, window_bits: int) -> tuple[bytes, bool]:
    """A gzip body may have several members."""
    out = b""
    while True:
        decoder = zlib.decompressobj(window_bits)
        out += decoder.decompress(data, DECODED_BYTES_MAX - len(out))
        data = decoder.unused_data
        if len(out) >= DECODED_BYTES_MAX or not decoder.eof or not data or window_bits < 0:
            return out, decoder.eof


def _decode_brotli(data: bytes) -> tuple[bytes, bool]:
    decoder = brotli.Decompressor()
    out = decoder.process(data, output_buffer_limit=DECODED_BYTES_MAX)
    return out[:DECODED_BYTES_MAX], decoder.is_finished()


def _decode_zstd(data: bytes) -> tuple[bytes, bool]:
    """A body may have several frames."""
    out = b""
    while True:
        decoder = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOG_MAX})
        out += decoder.decompress(data, DECODED_BYTES_MAX - len(out))
        data = decoder.unused_data if decoder.eof else b""
        if len(out) >= DECODED_BYTES_MAX or not data:
            return out, decoder.eof


_DECODERS: Final[dict[bytes, Callable[[bytes], tuple[bytes, bool]]]] = {
    b"gzip": _gunzip,
    b"x-gzip": _gunzip,
    b"deflate": _inflate,
    b"br": _decode_brotli,
    b"zstd": _decode_zstd,
}


class Payload(msgspec.Struct, frozen=True, gc=False):
    """The beginning of a body, and what its head says of it. Private to the node."""

    data: bytes
    is_complete: bool
    content_type: bytes
    content_encoding: bytes
    last: bytes = b""  # Of a longer body its last bytes, where these came.

    def __repr__(self) -> str:
        return f"Payload({len(self.data)} bytes, is_complete={self.is_complete})"


def read_payload(
    head: bytes, raw: bytes, *, is_request: bool, is_whole: bool, is_unframed: bool = False, last: bytes = b""
) -> Payload | None:
    """None where the head is none, or says that no body follows.

    `is_whole`: `raw` is all that came, so that a body without framing ends with it. `is_unframed`: chunks were undone
    before. `last`: as `raw` the last bytes of a longer body. Raises nothing.
    """
    events: list[Event] = []
    reader = MessageReader(is_request=is_request, has_data=True, expect=lambda start: Expect.NORMAL)
    reader.feed(head, events)
    found = next((event for event in events if isinstance(event, Head)), None)
    if found is None or found.framing.body in (Body.NONE, Body.UNKNOWN):
        return None
    content = found.get(b"content-type") or b"", found.get(b"content-encoding") or b""
    if is_unframed:
        return Payload(raw, is_whole, *content, last)
    events.clear()
    reader.feed(raw, events)
    reader.finish(events, is_closed=is_whole)
    parts: list[bytes] = []
    is_complete = False
    for event in events:
        if isinstance(event, Data):
            parts.append(event.data)
        elif isinstance(event, End):
            is_complete = event.is_complete
            break
    if last and found.framing.body is Body.CHUNKED:
        last = _CHUNK_LINE.sub(b"", _LAST_CHUNK.sub(b"", last))
    return Payload(b"".join(parts), is_complete, *content, last)
