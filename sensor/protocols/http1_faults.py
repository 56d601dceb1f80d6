"""What can be wrong with an HTTP/1 message, by name: error values of the stream reader, flags of a call.

Two readings share them. The strict one is an endpoint's: it stops at the first fault, as llhttp 9 without lenient flags
does, whose grammar it follows. The lenient one is a witness's: it notes the fault and goes on as servers in the field
do, except where nobody could say where the message ends.

A fault is `ambiguous` where two programs that both accept the message may end it at different bytes: the raw material
of request smuggling (RFC 9112, section 11.2). After such a request the reader takes no second one out of the same
flight; see `sensor.protocols.http1_stream`.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Fault(StrEnum):
    """Fixed words for counters and output; they never hold a byte of the message."""

    # Start lines.
    METHOD = "method"
    TARGET = "target"
    START_LINE = "start_line"
    VERSION = "version"
    VERSION_MISSING = "version_missing"
    STATUS_CODE = "status_code"
    HTTP2_PREFACE = "http2_preface"
    # Lines.
    BARE_LF = "bare_lf"
    BARE_CR = "bare_cr"
    OBS_FOLD = "obs_fold"
    SPACE_BEFORE_FIELDS = "space_before_fields"
    FIELD_LINE = "field_line"
    FRAMING_FIELD_NAME = "framing_field_name"
    FIELD_VALUE = "field_value"
    HEAD_SIZE = "head_size"
    HEAD_CUT = "head_cut"
    # Framing.
    CONTENT_LENGTH_INVALID = "content_length_invalid"
    CONTENT_LENGTH_OVERFLOW = "content_length_overflow"
    CONTENT_LENGTH_DUPLICATE = "content_length_duplicate"
    CONTENT_LENGTH_REPEATED = "content_length_repeated"
    CONTENT_LENGTH_ZEROS = "content_length_zeros"
    LENGTH_AND_CODING = "length_and_coding"
    CODING_UNKNOWN = "coding_unknown"
    CODING_NOT_FINAL = "coding_not_final"
    CODING_IN_HTTP_10 = "coding_in_http_10"
    # Chunks.
    CHUNK_SIZE = "chunk_size"
    CHUNK_SIZE_SPACE = "chunk_size_space"
    CHUNK_OVERFLOW = "chunk_overflow"
    CHUNK_EXTENSION = "chunk_extension"
    CHUNK_END = "chunk_end"
    # Connections.
    DATA_AFTER_CLOSE = "data_after_close"


@dataclass(frozen=True, slots=True)
class Rule:
    """What a fault means to each reading."""

    is_strict: bool = True  # The strict reading stops.
    is_fatal: bool = False  # The lenient reading cannot go on either.
    is_ambiguous: bool = False
    is_smuggling: bool = False  # Told as a sign of smuggling; all ambiguous ones are.


_AMBIGUOUS: Final = Rule(is_ambiguous=True, is_smuggling=True)
_FATAL: Final = Rule(is_fatal=True)
_LOST: Final = Rule(is_fatal=True, is_ambiguous=True, is_smuggling=True)

RULES: Final = {
    Fault.METHOD: _FATAL,
    Fault.TARGET: Rule(),
    Fault.START_LINE: _FATAL,
    Fault.VERSION: _FATAL,
    Fault.VERSION_MISSING: Rule(is_strict=False),  # HTTP/0.9; llhttp takes it.
    Fault.STATUS_CODE: Rule(),
    Fault.HTTP2_PREFACE: Rule(is_strict=False, is_fatal=True),
    Fault.BARE_LF: _AMBIGUOUS,  # RFC 9112, section 2.2: a recipient MAY take it for a line end, or not.
    Fault.BARE_CR: _AMBIGUOUS,  # The same section: invalid, or replaced by a space.
    Fault.OBS_FOLD: _AMBIGUOUS,  # Section 5.2: a server rejects it or joins the lines.
    Fault.SPACE_BEFORE_FIELDS: _AMBIGUOUS,  # Section 2.2: reject, or drop the line.
    Fault.FIELD_LINE: Rule(),
    Fault.FRAMING_FIELD_NAME: _AMBIGUOUS,  # `Content-Length :`, `Transfer-Encoding<0b>:`; section 5.1.
    Fault.FIELD_VALUE: Rule(),
    Fault.HEAD_SIZE: _FATAL,
    Fault.HEAD_CUT: Rule(is_strict=False),  # The stream ended within it.
    Fault.CONTENT_LENGTH_INVALID: _AMBIGUOUS,  # Section 6.3, rule 5.
    Fault.CONTENT_LENGTH_OVERFLOW: _AMBIGUOUS,
    Fault.CONTENT_LENGTH_DUPLICATE: _AMBIGUOUS,
    Fault.CONTENT_LENGTH_REPEATED: Rule(is_smuggling=True),  # Twice the same: everybody who takes it agrees.
    Fault.CONTENT_LENGTH_ZEROS: Rule(is_strict=False, is_smuggling=True),  # Valid; some read it as octal.
    Fault.LENGTH_AND_CODING: _AMBIGUOUS,  # Section 6.3, rule 3.
    Fault.CODING_UNKNOWN: _AMBIGUOUS,  # Section 6.3, rule 4, and 6.1: chunked is the one coding all know.
    Fault.CODING_NOT_FINAL: _AMBIGUOUS,
    Fault.CODING_IN_HTTP_10: Rule(
        is_strict=False, is_ambiguous=True, is_smuggling=True
    ),  # Section 6.1, last paragraph.
    Fault.CHUNK_SIZE: _LOST,
    Fault.CHUNK_SIZE_SPACE: _AMBIGUOUS,
    Fault.CHUNK_OVERFLOW: _LOST,
    Fault.CHUNK_EXTENSION: _AMBIGUOUS,  # Section 7.1.1; a line feed in it ends the line for some.
    Fault.CHUNK_END: _LOST,
    Fault.DATA_AFTER_CLOSE: Rule(),
}
# Numbers of responses' faults are the same, but a witness of responses loses more by stopping than by going on, and
# nobody smuggles requests in them: the lenient reading of a response treats no fault as ambiguous.


def name_smuggling(faults: list[Fault]) -> list[str]:
    """Those that are signs of smuggling, once each, in order."""
    return list(dict.fromkeys(fault.value for fault in faults if RULES[fault].is_smuggling))
