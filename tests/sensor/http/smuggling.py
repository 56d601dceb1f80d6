"""Requests of which two programs may disagree where they end, as smugglers send them before another request."""

from typing import Final

from sensor.http.http1.grammar import Fault

POST: Final = b"POST / HTTP/1.1\r\n"
EMPTY_CHUNK: Final = b"0\r\n\r\n"
CHUNKED: Final = POST + b"Transfer-Encoding: chunked\r\n\r\n"
SMUGGLED: Final = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"

# (what is sent before the second request, the fault that tells)
SMUGGLING: Final = {
    "length and coding": (
        POST + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n" + EMPTY_CHUNK, Fault.LENGTH_AND_CODING),
    "coding and length": (
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n" + EMPTY_CHUNK, Fault.LENGTH_AND_CODING),
    "two lengths": (
        POST + b"Content-Length: 0\r\nContent-Length: 39\r\n\r\n", Fault.CONTENT_LENGTH_DUPLICATE),
    "a list of lengths": (POST + b"Content-Length: 0, 39\r\n\r\n", Fault.CONTENT_LENGTH_INVALID),
    "a sign": (POST + b"Content-Length: +0\r\n\r\n", Fault.CONTENT_LENGTH_INVALID),
    "hex": (POST + b"Content-Length: 0x10\r\n\r\n", Fault.CONTENT_LENGTH_INVALID),
    "overflow": (POST + b"Content-Length: 18446744073709551616\r\n\r\n", Fault.CONTENT_LENGTH_OVERFLOW),
    "chunked twice": (
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + EMPTY_CHUNK,
        Fault.CODING_NOT_FINAL),
    "chunked, identity": (
        POST + b"Transfer-Encoding: chunked, identity\r\n\r\n" + EMPTY_CHUNK, Fault.CODING_UNKNOWN),
    "xchunked": (POST + b"Transfer-Encoding: xchunked\r\n\r\n" + EMPTY_CHUNK, Fault.CODING_UNKNOWN),
    "vertical tab": (POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + EMPTY_CHUNK, Fault.CODING_UNKNOWN),
    "name and blank": (
        POST + b"Transfer-Encoding : chunked\r\n\r\n" + EMPTY_CHUNK, Fault.FRAMING_FIELD_NAME),
    "blank and name": (
        POST + b"A: b\r\n Transfer-Encoding: chunked\r\n\r\n" + EMPTY_CHUNK, Fault.OBS_FOLD),
    "underscore": (POST + b"\x0bContent_Length: 3\r\n\r\n", Fault.FRAMING_FIELD_NAME),
    "folded coding": (POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + EMPTY_CHUNK, Fault.OBS_FOLD),
    "bare line feed": (POST + b"X: y\nContent-Length: 0\r\n\r\n", Fault.BARE_LF),
    "bare carriage return": (POST + b"X: y\rContent-Length: 40\r\n\r\n", Fault.BARE_CR),
    "blank before the fields": (POST + b" Content-Length: 40\r\n\r\n", Fault.SPACE_BEFORE_FIELDS),
    "coding in HTTP/1.0": (
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" + EMPTY_CHUNK, Fault.CODING_IN_HTTP_10),
    "chunk overflow": (CHUNKED + b"10000000000000000\r\n\r\n", Fault.CHUNK_OVERFLOW),
    "chunk size": (CHUNKED + b"0x5\r\n\r\n", Fault.CHUNK_SIZE),
    "chunk extension": (CHUNKED + b"0;a=\x00\r\n\r\n", Fault.CHUNK_EXTENSION),
    "line feed in a chunk size": (CHUNKED + b"0\n\r\n", Fault.BARE_LF),
    "chunk without an end": (CHUNKED + b"1\r\naX0\r\n\r\n", Fault.CHUNK_END),
    "length in a trailer": (CHUNKED + b"0\r\nContent-Length: 5\r\n\r\n", Fault.LENGTH_AND_CODING),
}  # fmt: skip
