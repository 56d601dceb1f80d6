"""What became of requests that were to be held against the attack rules: read, found, or not looked at."""

from dataclasses import dataclass

from sensor.health import Figure


@dataclass(slots=True)
class AttackAccount:
    """Totals since the sensor's start, under whichever installation key."""

    read_bytes: int = 0  # Of values.
    attacks: int = 0  # Calls whose request held a payload.
    confirmed: int = 0  # Of those, whose answer says that it worked.
    skipped: int = 0  # Requests past the budget of bytes.
    unread: int = 0  # Calls whose head looked like an attack and did not come up.

    def figures(self) -> tuple[Figure, ...]:
        """For metrics."""
        values = (
            ("attacks_read_bytes", "Bytes of requests held against the attack rules", self.read_bytes),
            ("attacks", "Calls whose request held an attack's payload", self.attacks),
            ("attacks_confirmed", "Of those, whose response says that it worked", self.confirmed),
            ("attacks_skipped", "Requests the budget of attack_bytes_per_second had no room for", self.skipped),
            ("attacks_unread", "Calls that looked like an attack, beyond the budget of heads", self.unread),
        )
        return tuple(Figure(name=name, documentation=text, value=value, is_total=True) for name, text, value in values)
