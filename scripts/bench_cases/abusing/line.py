"""A call of a made day, and when the day is."""

from dataclasses import dataclass

START = 1_750_032_000  # A midnight.
DAY = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A call. `actor` is for the score and never shown to the product."""

    time: float
    actor: str
    address: str
    agent: str
    token: str
    method: str
    path: str
    status: int
    size: int
    milliseconds: float
