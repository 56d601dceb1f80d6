"""Reads expressions and phrases of the OWASP Core Rule Set from the operating system's package. EDGE: files.

Debian's `modsecurity-crs` installs them in /usr/share/modsecurity-crs/rules. Used are rules over values of a request,
of paranoia levels 1 to 3, that stand alone (no chain). Lists of phrases are used too, with the conditions of the rule's
chain. `_LOOSE` lists the excluded rules: they matched harmless queries in measurements, or look at characters only by
their level's own notes.

Where the package is not installed, there are no such rules and the sensor uses only its own.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sensor.describe.attacks.classes import AttackClass, Part
from sensor.describe.attacks.matching import Rule

RULES_DIRECTORY: Final = Path("/usr/share/modsecurity-crs/rules")
_RULE = re.compile(r'^SecRule\s+(?P<targets>"[^"]*"|\S+)\s+"@rx (?P<rx>(?:[^"\\]|\\.)*)"\s+"(?P<actions>.*)"\s*$', re.M)
_RESPONSE = re.compile(r'^\s*SecRule\s+RESPONSE_BODY\s+"@rx (?P<rx>(?:[^"\\]|\\.)*)"', re.M)
_ID = re.compile(r"\bid:(\d+)")
_CHAIN = re.compile(r"(?:^|,)\s*chain\s*(?:,|$)")
_LEVEL = re.compile(r"paranoia-level/(\d)")
_LEVEL_MAX = 3
_LOOSE: Final = frozenset(
    {
        "921110", "921151", "931120", "931130", "932100", "932105", "932106", "932110", "932115", "932130", "932150",
        "932190", "932200", "933100", "933190", "933210", "941130", "941150", "941170", "941210", "941310", "941330",
        "941340", "941380", "942110", "942120", "942170", "942190", "942200", "942230", "942251", "942260", "942270",
        "942300", "942310", "942330", "942340", "942360", "942361", "942370", "942390", "942400", "942410", "942420",
        "942421", "942430", "942431", "942432", "942440", "942460", "942490", "942510", "942511", "943110", "943120",
    }
)  # fmt: skip
# Rules of the first level that match what people write about programs.
_LOOSE_IN_PROSE: Final = frozenset({"932140", "933160", "934100", "941140", "942140", "942170", "942270", "942350"})
_MAIL: Final = "9323"  # Rules for lines of SMTP, IMAP and POP3.
_WORDY: Final = frozenset({AttackClass.SQLI, AttackClass.RCE, AttackClass.XSS})  # Classes of words of a language.
# What the set left out of its expressions after the package's version, and what stands there since.
_AMENDED: Final = (
    ("(?:[acm]tim|inod)e|(?:_exist|perm)s|group", "_exists"),  # That a file has a time or a mode says little.
    ("//.*|#.*", r"//[^\n]*\n|#[^\n]*\n"),  # A comment ends with its line.
)
# By the first three digits of a rule's id: the files of the set.
_CLASSES: Final = {
    "921": AttackClass.SPLITTING,
    "930": AttackClass.TRAVERSAL,
    "931": AttackClass.SSRF,
    "932": AttackClass.RCE,
    "933": AttackClass.RCE,
    "934": AttackClass.RCE,
    "941": AttackClass.XSS,
    "942": AttackClass.SQLI,
    "943": AttackClass.XSS,  # Cookies set by a script.
    "944": AttackClass.RCE,
}
_LOG4SHELL: Final = frozenset({"944150", "944151", "944152"})


@dataclass(frozen=True, slots=True)
class _Phrases:
    """A rule that looks for any of a list of phrases, and what must stand before and behind one."""

    name: str
    file: str
    attack_class: AttackClass
    before: str = ""
    behind: str = ""
    part: Part | None = None
    is_loose: bool = False


_PHRASES: Final = (
    _Phrases("913100", "scanners-user-agents.data", AttackClass.PROBING, part=Part.AGENT),
    _Phrases("913120", "scanners-urls.data", AttackClass.PROBING),
    _Phrases("930120", "lfi-os-files.data", AttackClass.TRAVERSAL, r"(?:^|[^\w.])"),
    _Phrases("930130", "restricted-files.data", AttackClass.PROBING, r"(?:^|[^\w.])", part=Part.PATH),
    _Phrases("932120", "windows-powershell-commands.data", AttackClass.RCE, r"\b", r"\b"),
    _Phrases("932160", "unix-shell.data", AttackClass.RCE, behind=r"(?:[^a-z]|$)"),
    _Phrases("932180", "restricted-upload.data", AttackClass.RCE, part=Part.FILE),
    _Phrases("933120", "php-config-directives.data", AttackClass.RCE, r"(?:^|[\s;&?])", r"\s*="),
    _Phrases("933130", "php-variables.data", AttackClass.RCE),
    _Phrases("933150", "php-function-names-933150.data", AttackClass.RCE),
    _Phrases("933151", "php-function-names-933151.data", AttackClass.RCE, r"\b", r"\s*\(", is_loose=True),
    _Phrases("944130", "java-classes.data", AttackClass.RCE),
)


def load_core_rules(directory: Path = RULES_DIRECTORY) -> tuple[Rule, ...]:
    """The rules in `directory`; none where it is not there or cannot be read."""
    rules = []
    try:
        for path in sorted(directory.glob("REQUEST-9[234]*.conf")):
            rules += _read_rules(path.read_text("utf-8").replace("\\\n", ""))
        rules += [rule for phrases in _PHRASES if (rule := _read_phrases(directory, phrases)) is not None]
    except OSError:
        pass
    return tuple(rules)


def load_database_errors(directory: Path = RULES_DIRECTORY) -> tuple[str, ...]:
    """What databases' clients print of a broken statement, by the rules over responses; none where there are none."""
    try:
        texts = [path.read_text("utf-8").replace("\\\n", "") for path in sorted(directory.glob("RESPONSE-951*.conf"))]
    except OSError:
        return ()
    return tuple(found["rx"].replace('\\"', '"') for text in texts for found in _RESPONSE.finditer(text))


def _read_phrases(directory: Path, phrases: _Phrases) -> Rule | None:
    path = directory / phrases.file
    if not path.exists():
        return None
    lines = (line.strip() for line in path.read_text("utf-8").splitlines())
    words = "|".join(re.escape(line) for line in lines if line and not line.startswith("#"))
    pattern = f"{phrases.before}(?:{words}){phrases.behind}"
    return Rule(phrases.name, phrases.attack_class, pattern, True, phrases.part, phrases.is_loose)


def _read_rules(text: str) -> list[Rule]:
    rules = []
    for found in _RULE.finditer(text):
        actions, identity = found["actions"], _ID.search(found["actions"])
        level = _LEVEL.search(actions)
        targets = found["targets"].strip('"').split("|")
        part = _find_part(targets)
        if identity is None or level is None or int(level[1]) > _LEVEL_MAX or part is None:
            continue
        name = identity[1]
        if name in _LOOSE or _CHAIN.search(actions) or name[:3] not in _CLASSES:
            continue
        kind = AttackClass.LOG4SHELL if name in _LOG4SHELL else _CLASSES[name[:3]]
        pattern = found["rx"].replace('\\"', '"')
        for old, new in _AMENDED:
            pattern = pattern.replace(old, new)
        is_sure = level[1] == "1"
        is_wordy = not is_sure and kind in _WORDY and not name.startswith(_MAIL)
        is_loose = is_wordy or name in _LOOSE_IN_PROSE
        rules.append(Rule(name, kind, pattern, is_sure, part if part is not Part.TEXT else None, is_loose))
    return rules


def _find_part(targets: list[str]) -> Part | None:
    """Where a rule looks; `TEXT` is wherever, None nowhere that we have."""
    names = {target.partition(":")[0] for target in targets}
    if "ARGS" in names:
        return Part.TEXT
    if "FILES" in names:
        return Part.FILE
    if names <= {"ARGS_GET", "ARGS_GET_NAMES"}:
        return Part.QUERY
    if names == {"ARGS_NAMES"}:
        return Part.QUERY_NAME
    return Part.PATH if names == {"REQUEST_FILENAME"} else None
