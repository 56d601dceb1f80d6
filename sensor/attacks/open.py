"""The attack reader of a sensor, with the core rules where their package is installed. EDGE: reads files."""

from sensor.attacks.account import AttackAccount
from sensor.attacks.classifier import AttackClassifier
from sensor.attacks.core_rules import load_core_rules
from sensor.attacks.reader import AttackReader
from sensor.keyed import KeyedHash


def open_attacks(keyed_hash: KeyedHash, *, bytes_per_second: int, account: AttackAccount) -> AttackReader | None:
    """A reader under one installation key; None where nothing is to be looked at. Takes some .15 s."""
    if not bytes_per_second:
        return None
    classifier = AttackClassifier(keyed_hash.compute, load_core_rules())
    return AttackReader(classifier, bytes_per_second=bytes_per_second, account=account)
