"""Bodies as they travel: chunked, compressed, cut."""

import gzip
import zlib

import brotli
from backports import zstd


def chunk(body: bytes, size: int = 1_000) -> bytes:
    """Chunk framing."""
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x;ext=1\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\nX-Trailer: 1\r\n\r\n"


def deflate_raw(body: bytes) -> bytes:
    """As some servers send `deflate`."""
    encoder = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return encoder.compress(body) + encoder.flush()


ENCODERS = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "Deflate ": deflate_raw,
    "br": brotli.compress,
    "zstd": zstd.compress,
    "gzip, br": lambda body: brotli.compress(gzip.compress(body)),
    "identity": bytes,
}


def response_head(*, media_type: str = "application/json", coding: str = "", length: int | None = None) -> bytes:
    """Chunked where no length is given."""
    lines = [f"Content-Type: {media_type}; charset=utf-8"] if media_type else []
    lines += [f"Content-Encoding: {coding}"] if coding else []
    lines += ["Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"]
    return ("HTTP/1.1 200 OK\r\n" + "\r\n".join(lines) + "\r\n\r\n").encode()
