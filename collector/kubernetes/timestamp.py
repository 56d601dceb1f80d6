"""Times of the API server: RFC 3339 in, unix seconds out."""

from datetime import datetime


def read_time(text: str | None) -> int:
    """Unix seconds; 0 where there is none or it is no time."""
    try:
        return int(datetime.fromisoformat(text).timestamp()) if text else 0
    except ValueError:
        return 0
