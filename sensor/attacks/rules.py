"""What a rule is: the core rules' and the sensor's own."""

from dataclasses import dataclass

from sensor.attacks.classes import AttackClass
from sensor.attacks.request import Part


@dataclass(frozen=True, slots=True)
class Rule:
    """One expression: case does not matter, a dot takes line ends too."""

    name: str
    attack_class: AttackClass
    pattern: str
    is_sure: bool  # It alone is enough for high confidence.
    part: Part | None = None  # Only values that stand there; None: wherever.
