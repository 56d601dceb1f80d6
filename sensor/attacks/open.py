"""The attack reader of a sensor, with the core rules where their package is installed. EDGE: reads files."""

from sensor.attacks.account import AttackAccount
from sensor.attacks.classes import Attack
from sensor.attacks.classifier import AttackClassifier
from sensor.attacks.core_rules import load_core_rules
from sensor.attacks.reader import AttackReader
from sensor.attacks.request import Request
from sensor.keyed import KeyedHash


def open_attacks(keyed_hash: KeyedHash, *, bytes_per_second: int, account: AttackAccount) -> AttackReader | None:
    """A reader under one installation key; None where nothing is to be looked at."""
    if not bytes_per_second:
        return None
    return AttackReader(_LateClassifier(keyed_hash), bytes_per_second=bytes_per_second, account=account)


class _LateClassifier:
    """The classifier, made when the first value is there to be looked at: it takes 7 MB and once some 0.1 s, and most
    nodes' paths are plain."""

    def __init__(self, keyed_hash: KeyedHash) -> None:
        self._keyed_hash = keyed_hash
        self._classifier: AttackClassifier | None = None

    def find(self, request: Request) -> tuple[Attack, str] | None:
        """As `AttackClassifier.find`."""
        return self._open().find(request)

    def is_odd(self, text: str) -> bool:
        """As `AttackClassifier.is_odd`."""
        return self._open().is_odd(text)

    def _open(self) -> AttackClassifier:
        if self._classifier is None:
            self._classifier = AttackClassifier(self._keyed_hash.compute, load_core_rules())
        return self._classifier
