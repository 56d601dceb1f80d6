"""The attack reader of a sensor, with the core rules where their package is installed. EDGE: reads files."""

from typing import Final

from sensor.core.health import AttackAccount
from sensor.core.keyed import KeyedHash
from sensor.describe.attacks.classes import Attack, Request, is_passed_over
from sensor.describe.attacks.classifier import PRINTED_BASE64, AttackClassifier
from sensor.describe.attacks.conduct import find_misconduct
from sensor.describe.attacks.core_rules import load_core_rules, load_database_errors
from sensor.describe.attacks.matching import ExpressionSet
from sensor.describe.attacks.reader import AttackReader, EvidenceFinder

# Texts for which the classifier is made: any mark that ordinary targets and headers have not, or a word of a payload
# that has none. Bodies always are.
_WORTH: Final = (
    r"[^\w .,:;/=+()*@&?~-]|\s--?\w|;\w|\.\.|//|::|^(?:env|set|sudo|time|exec|strace|visudo|whoami)\b",
    r"java|com\.sun|org\.apache|ansible|chef|proc/|/sys/|/etc/|/dev/|/tmp/|/bin/|wp-|\.(?:php|pht|phar|asp|jsp|cgi|war)",
    r"ro0ab|kztaa|cs7qa|cnvud|udw50|1bnrp",
    PRINTED_BASE64,
    r"sqlmap|nikto|nessus|nmap|scan|acunetix|dirb|fuzz|masscan|nuclei|hydra|arachni",
)
_WORTH_BYTES: Final = 1 << 20


def open_attacks(keyed_hash: KeyedHash, *, bytes_per_second: int, account: AttackAccount) -> AttackReader | None:
    """A reader under one installation key; None where nothing is to be looked at."""
    if not bytes_per_second:
        return None
    return AttackReader(
        _LateClassifier(keyed_hash),
        bytes_per_second=bytes_per_second,
        account=account,
        evidence=EvidenceFinder(load_database_errors),
    )


class _LateClassifier:
    """The classifier, made when a text is there that is worth it: it takes 7 MB and once some .1 s, and the heads of
    many nodes are all ordinary."""

    def __init__(self, keyed_hash: KeyedHash) -> None:
        self._keyed_hash = keyed_hash
        self._classifier: AttackClassifier | None = None
        self._worth = ExpressionSet(_WORTH, _WORTH_BYTES)

    def find(self, request: Request) -> tuple[Attack, str] | None:
        """As `AttackClassifier.find`."""
        classifier = self._classifier or self._open(self._is_worth(request))
        return classifier.find(request) if classifier is not None else None

    def is_odd(self, text: str) -> bool:
        """As `AttackClassifier.is_odd`."""
        classifier = self._classifier or self._open(bool(self._worth.match(text)))
        return classifier is not None and classifier.is_odd(text)

    def _open(self, is_worth: bool) -> AttackClassifier | None:
        if is_worth:
            self._classifier = AttackClassifier(self._keyed_hash.compute, load_core_rules())
        return self._classifier

    def _is_worth(self, request: Request) -> bool:
        values = [value for name, value in request.headers if not is_passed_over(name, value)]
        is_odd = any(text and self._worth.match(text) for text in (request.path, request.query, *values))
        return bool(request.body) or is_odd or find_misconduct(request) is not None
