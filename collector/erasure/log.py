"""The write-ahead log without one consumer: its hash or text is blanked in every frame, byte for byte.

Lengths stay, and so do all positions that readers keep. A hash is eight bytes as the wire has it (fixed64), which occur
by chance once in 2^64 places; a text is replaced where it is a whole entry of the batch's dictionary. Nobody may
write the log meanwhile.
"""

from pathlib import Path
from typing import Final

from collector.ingest.reader import write_durably
from collector.ingest.segment import Position, decode_frames, encode_frame, find_segments, locate_segment
from collector.inventory.consumer import ConsumerKind, ConsumerName

_HASH_BYTES: Final = 8
# Field `strings` of a Batch, and its tag: length-delimited, wire type 2 of protobuf.
STRINGS_FIELD: Final = 9
_STRINGS_TAG: Final = bytes([STRINGS_FIELD << 3 | 2])
_SHORT_BYTES: Final = 0x80  # A longer text has a length of two bytes.


def erase_from_log(directory: Path, consumer: ConsumerName) -> int:
    """Blank a consumer in all segments, damaged bytes included; gives in how many batches it was. Raises OSError."""
    old, new = _find_replacement(consumer)
    count = 0
    for number in find_segments(directory):
        path = locate_segment(directory, number)
        content = path.read_bytes()
        if old not in content:
            continue
        blanked = bytearray(content.replace(old, new))
        for entry in decode_frames(content, Position(number, 0), is_complete=True).entries:
            if old in entry.payload:
                count += 1
                blanked[entry.start.offset : entry.end.offset] = encode_frame(
                    entry.payload.replace(old, new),
                    number=entry.number,
                    received_unix_ns=entry.received_unix_ns,
                    position=entry.start,
                )
        write_durably(path, bytes(blanked))
    return count


def _find_replacement(consumer: ConsumerName) -> tuple[bytes, bytes]:
    if consumer.kind in (ConsumerKind.PRINCIPAL, ConsumerKind.CREDENTIAL):
        return int(consumer.value, 16).to_bytes(_HASH_BYTES, "little"), bytes(_HASH_BYTES)
    text = consumer.value.encode()
    length = len(text)
    size = bytes([length]) if length < _SHORT_BYTES else bytes([length & 0x7F | _SHORT_BYTES, length >> 7])
    return _STRINGS_TAG + size + text, _STRINGS_TAG + size + b"-" * length
