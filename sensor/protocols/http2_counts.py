"""What was read of one HTTP/2 connection, and what was not."""

import msgspec


class ReaderCounts(msgspec.Struct):
    """Account of one direction."""

    frames: int = 0
    bridged_gaps: int = 0  # In payloads that are not needed.
    losses: int = 0  # Of the place, by gaps.
    faults: int = 0  # Of the place, by frames that are none.
    resumed: int = 0  # Times it was found again.
    skipped_bytes: int = 0  # While it was lost: seen and not read.
    gap_bytes: int = 0


class Http2Counts(msgspec.Struct):
    """Account of one connection, beside those of its readers."""

    blocks: int = 0  # Header blocks that ended: decoded, broken or too long.
    broken_blocks: int = 0  # Could not be decoded: the table is unknown from there.
    long_blocks: int = 0
    cut_blocks: int = 0  # Begun and not ended, or continued and not begun.
    undirected_blocks: int = 0  # Of a side that is not known yet.
    pushed_blocks: int = 0
    losses: int = 0  # Times a direction's table became unknown.
    requests: int = 0
    orphan_responses: int = 0  # Of streams whose request was not seen, or was given up.
    unasked: int = 0  # Of those, streams whose request never came: calls that are neither told nor counted elsewhere.
    late_requests: int = 0  # Blocks of streams that had ended.
    told: int = 0  # Calls, each once.
    given_up: int = 0  # Of those, streams that were pushed out, or stayed silent after a loss.

    def add(self, other: "Http2Counts") -> None:
        """Adds those of another connection."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))
