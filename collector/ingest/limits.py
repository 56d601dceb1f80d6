"""What one message of a sensor may hold, where several kinds of messages share a bound."""

from typing import Final

MESSAGE_LIMIT_BYTES: Final = 16 * 1024 * 1024
TEXT_LIMIT_BYTES: Final = 1_024  # One entry: hosts, media types, segments and addresses are far shorter.
NAME_LIMIT_BYTES: Final = 253  # Node, cluster, workload: a DNS name's limit.
# Of one row: sums over a year of rows then stay far below 2**64.
CALLS_LIMIT: Final = 2**40
