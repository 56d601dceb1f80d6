"""Clocks of a place: summer time, half hours, and names that are none."""

from datetime import UTC, datetime

import pytest

from collector.core.rates import LocalTime

DAY = 86_400


@pytest.mark.parametrize(
    ("zone", "moment", "shown"),
    [
        ("UTC", "2026-03-29T00:30", "00:30"),
        ("Europe/Berlin", "2026-03-29T00:30", "01:30"),
        ("Europe/Berlin", "2026-03-29T01:30", "03:30"),  # Put forward at one, UTC.
        ("Europe/Berlin", "2026-10-25T00:30", "02:30"),
        ("Europe/Berlin", "2026-10-25T01:30", "02:30"),  # Put back.
        ("Asia/Kolkata", "2026-01-01T20:00", "01:30"),
        ("America/New_York", "2026-01-01T02:00", "21:00"),
    ],
)
def test_hours_are_those_of_the_clock(zone: str, moment: str, shown: str) -> None:
    time = datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp()
    local = LocalTime(zone).read(time)
    assert f"{int(local % DAY // 3_600):02d}:{int(local % 3_600 // 60):02d}" == shown


@pytest.mark.parametrize("name", ["", "Mars/Olympus", "Europe", "../../etc/passwd", "/etc/localtime", "a\0b"])
def test_what_is_no_zone_is_refused_with_one_sentence(name: str) -> None:
    with pytest.raises(ValueError, match=r"no time zone of the IANA database; write it as Europe/Berlin or UTC$"):
        LocalTime(name)
