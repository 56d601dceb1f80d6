"""What became of requests that were to be held against the attack rules: read, found, or not looked at."""

from dataclasses import dataclass

from common.figures import total


@dataclass(slots=True)
class AttackAccount:
    """Totals since the sensor's start, under whichever installation key."""

    read_bytes: int = total("Bytes of requests that the attack rules looked at.")
    attacks: int = total("Calls whose request holds a payload of an attack.", name="attacks")
    confirmed: int = total("Calls with a payload of an attack whose response says that it worked.")
    skipped: int = total("Requests beyond the budget attack_bytes_per_second, which no rule looked at.")
    unread: int = total("Calls whose head looked like an attack and was beyond the budget of heads.")
