"""What a sensor makes of its blocks, as plain data."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockStatus:
    """One block. Counts since it was taken up."""

    id: str
    is_enforced: bool
    reason: str = ""  # Why it is not.
    stopped_connections: int = 0
    stopped_bytes: int = 0
    failed_resets: int = 0
    spared_requests: int = 0
    first_stop_unix_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EnforcementReport:
    """All of them, and whether anything is enforced here at all."""

    epoch: int
    is_enabled: bool
    reason: str
    blocks: tuple[BlockStatus, ...]
