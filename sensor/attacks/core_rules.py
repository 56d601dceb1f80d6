"""The regular expressions of the OWASP Core Rule Set, read from where the operating system's package keeps them.

EDGE: files. Debian's `modsecurity-crs` puts them into /usr/share/modsecurity-crs/rules. Taken are the rules over
arguments of paranoia levels 1 and 2 that stand alone (no chain), but for those that took ordinary queries for attacks
(`_LOOSE`: measured, or known from the levels' own notes to look at characters only), and those that look for phrases
of a list: files of a system, shells, classes of Java, functions and variables of PHP.
Where the package is not installed there are none, and the sensor's own rules stand alone.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sensor.attacks.classes import AttackClass

RULES_DIRECTORY: Final = Path("/usr/share/modsecurity-crs/rules")
_RULE = re.compile(r'^SecRule\s+(?P<targets>"[^"]*"|\S+)\s+"@rx (?P<rx>(?:[^"\\]|\\.)*)"\s+"(?P<actions>.*)"\s*$', re.M)
_ID = re.compile(r"\bid:(\d+)")
_LEVEL = re.compile(r"paranoia-level/(\d)")
_LEVEL_MAX = 2
_LOOSE: Final = frozenset(
    {
        "931130", "932130", "932150", "932200", "933210", "941150", "941170", "941210", "941330", "941340", "942110",
        "942200", "942330", "942340", "942370", "942420", "942421", "942430", "942431", "942432", "942440", "942460",
    }
)  # fmt: skip
# By the first three digits of a rule's id: the files of the set.
_CLASSES: Final = {
    "930": AttackClass.TRAVERSAL,
    "931": AttackClass.SSRF,
    "932": AttackClass.RCE,
    "933": AttackClass.RCE,
    "934": AttackClass.RCE,
    "941": AttackClass.XSS,
    "942": AttackClass.SQLI,
    "944": AttackClass.RCE,
}
_LOG4SHELL: Final = frozenset({"944150", "944151", "944152"})
# Rules that look for any of a list of phrases: by id, the file of the list and the class.
_PHRASES: Final = {
    "930120": ("lfi-os-files.data", AttackClass.TRAVERSAL),
    "932160": ("unix-shell.data", AttackClass.RCE),
    "933130": ("php-variables.data", AttackClass.RCE),
    "933150": ("php-function-names-933150.data", AttackClass.RCE),
    "944130": ("java-classes.data", AttackClass.RCE),
}


@dataclass(frozen=True, slots=True)
class Rule:
    """One expression: case does not matter, a dot takes line ends too."""

    name: str
    attack_class: AttackClass
    pattern: str
    is_sure: bool  # It alone is enough for high confidence.


def load_core_rules(directory: Path = RULES_DIRECTORY) -> tuple[Rule, ...]:
    """The rules in `directory`; none where it is not there or cannot be read."""
    rules = []
    try:
        for path in sorted(directory.glob("REQUEST-9[34]*.conf")):
            rules += _read_rules(path.read_text("utf-8").replace("\\\n", ""))
        for name, (file, kind) in _PHRASES.items():
            lines = (line.strip() for line in (directory / file).read_text("utf-8").splitlines())
            phrases = "|".join(re.escape(line) for line in lines if line and not line.startswith("#"))
            rules.append(Rule(name, kind, phrases, is_sure=True))
    except OSError:
        pass
    return tuple(rules)


def _read_rules(text: str) -> list[Rule]:
    rules = []
    for found in _RULE.finditer(text):
        actions, identity = found["actions"], _ID.search(found["actions"])
        level = _LEVEL.search(actions)
        if identity is None or level is None or int(level[1]) > _LEVEL_MAX or "ARGS" not in found["targets"]:
            continue
        name = identity[1]
        if name in _LOOSE or "chain" in actions.split(",") or name[:3] not in _CLASSES:
            continue
        kind = AttackClass.LOG4SHELL if name in _LOG4SHELL else _CLASSES[name[:3]]
        rules.append(Rule(name, kind, found["rx"].replace('\\"', '"'), is_sure=level[1] == "1"))
    return rules
