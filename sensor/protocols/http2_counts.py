"""What was read of HTTP/2 connections, and what was not."""

from dataclasses import dataclass

from common.figures import total


@dataclass(slots=True)
class Http2Counts:
    """Account of one connection, both directions together."""

    requests: int = total("Requests of HTTP/2 whose header block was read.")
    told: int = total("Calls of HTTP/2 that were reported, each once.", name="http2_calls")
    given_up: int = total(
        "Calls of HTTP/2 reported as ended because a loss left their end in doubt.", name="http2_given_up_calls"
    )
    orphan_responses: int = total("Responses of HTTP/2 whose request was not seen, or had ended.")
    unasked: int = total("Calls of HTTP/2 that were not reported because their request was not seen.")
    blocks: int = total("Header blocks of HTTP/2 that ended, whether they could be read or not.")
    broken_blocks: int = total("Header blocks that could not be decoded.")
    long_blocks: int = total("Header blocks that were too long to keep, or that the kernel did not copy.")
    cut_blocks: int = total("Header blocks of which the beginning or the end is missing.")
    undirected_blocks: int = total("Header blocks not read because it was not known which side is the client.")
    pushed_blocks: int = total("Header blocks of server push, which is not reported.")
    late_blocks: int = total("Header blocks of streams that had ended.")
    losses: int = total("Times that the header table of a direction became unknown.")
    lost_places: int = total("Times that the place of the next frame was lost.")
    faults: int = total("Frames that break the protocol; the place of the next frame is then lost.")
    skipped_bytes: int = total(
        "Bytes of HTTP/2 that were seen and not read while the place of the next frame was lost."
    )
    gap_bytes: int = total("Bytes of HTTP/2 that were never seen, between bytes that were.")
