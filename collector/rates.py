"""How often something happens: what was counted, divided by the time that has passed, and in words with a unit."""

from typing import Final

# Over less time a count is said with its seconds: a rate of it would be guessed.
RATE_SECONDS_MIN: Final = 10
CALLS_A_SECOND: Final = "calls a second"


def compute_rate(count: float, seconds: float) -> float:
    """A second. Of less than one it is taken for one, for times are of whole seconds."""
    return count / max(seconds, 1)


def word_rate(rate: float, unit: str = "calls") -> str:
    """`9.8 calls/s`, or by minute or hour where it is slower; without a unit `9.8/s`."""
    unit = f" {unit}" if unit else ""
    if rate >= 0.95:
        return f"{rate:,.1f}{unit}/s" if rate < 100 else f"{rate:,.0f}{unit}/s"
    if rate * 60 >= 0.95:
        return f"{rate * 60:.1f}{unit}/min"
    return f"{rate * 3600:.1f}{unit}/h" if rate > 0 else f"0{unit}/s"


def word_measure(value: float, unit: str) -> str:
    """What an alert counted, in its own unit: `10.0 calls/s`, `609 refused logins`."""
    return word_rate(value) if unit == CALLS_A_SECOND else f"{value:.4g} {unit}"
