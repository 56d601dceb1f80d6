r"""Finds attacks in a request: decodes its values as a server would, and matches each with all rules (`matching`).

The class is that of most matching rules. Where several classes have as many, the first in the order of `AttackClass`
wins. Rules of a narrow class (`_NARROW`) win over all others.

Decoding undoes percent signs up to three times, entities, escapes, JSON, both kinds of forms, and base64. It also
undoes quoting that hides commands from a reader but not from a shell: `c'a't`, `w^hoami`, `ca\t`, `cat$u /etc//passwd`.

Multipart forms give names, file names and values. The reader accepts more than servers should, such as line ends of one
byte and parts without a name. Of a file it gives only the name and a beginning of text. Pure.
"""

import base64
import html
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final
from urllib.parse import unquote, unquote_to_bytes

from sensor.describe.attacks.classes import (
    Attack,
    AttackClass,
    AttackConfidence,
    Part,
    Request,
    Value,
    find_part,
    is_passed_over,
)
from sensor.describe.attacks.conduct import find_misconduct
from sensor.describe.attacks.matching import Rule, RuleMatcher, RuleSet
from sensor.describe.attacks.own_rules import OWN_RULES
from sensor.describe.attacks.prose import is_document, is_search, shorten, strip_marks, strip_markup

_QUOTING: Final = str.maketrans("", "", "\"'\\^")
_HIDING: Final = ("'", '"', "\\", "^", "$", "``", "//", "  ")  # One of these is in whatever is hidden so.
_EMPTY: Final = re.compile(r"\$[@*!]|``|\$[a-z_]\w?(?![\w{(])", re.IGNORECASE)  # Variables without a value, too.
_BLANKS: Final = re.compile(r"\s{2,}|\$\{?IFS\}?", re.IGNORECASE)


def strip_quoting(text: str) -> str | None:
    """`text` without quotes, escapes, empty variables and repeated blanks; None where there were none."""
    if not any(mark in text for mark in _HIDING):
        return None
    bare = text.translate(_QUOTING)
    if "$" in bare or "``" in bare:
        bare = _EMPTY.sub("", _BLANKS.sub(" ", bare))
    if "  " in bare:
        bare = " ".join(word for word in bare.split(" ") if word)
    while "//" in bare:
        bare = bare.replace("//", "/")
    return bare if bare != text else None


PARTS_MAX: Final = 64
_NAME: Final = re.compile(r"""(?<![\w*])name\s*=\s*(?:"((?:[^"\\]|\\.){0,256})"|([^;\s"]{1,256}))""", re.IGNORECASE)
_FILE: Final = re.compile(
    r"""filename(?:\*\s*=\s*[\w-]*'[\w-]*'([^;\s]{0,256})|\s*=\s*(?:"((?:[^"\\]|\\.){0,256})"|([^;\s"]{1,256})))""",
    re.IGNORECASE,
)
_CHARSET: Final = re.compile(
    r"""^content-type:[^\n]*;\s*charset\s*=\s*["']?([\w-]{1,40})""", re.IGNORECASE | re.MULTILINE
)
_BLANK_LINE: Final = re.compile(r"\r?\n\r?\n")


def is_multipart(content_type: str) -> bool:
    """Whether a body is to be read by this module."""
    return content_type.lower().startswith("multipart/")


def list_fields(body: str) -> Iterator[Value]:
    """Names and values; nothing of a body that begins with no boundary."""
    boundary = body[:256].lstrip().split("\n", 1)[0].rstrip("\r")
    if not boundary.startswith("--"):
        return
    for part in body.split(boundary)[1 : PARTS_MAX + 1]:
        head, *rest = _BLANK_LINE.split(part, maxsplit=1)
        file = _FILE.search(head)
        if file is not None:
            yield Value(Part.FILE, file[1] or file[2] or file[3] or "")
        name = _NAME.search(head)
        if name is not None:
            yield Value(Part.TEXT, name[1] or name[2] or "")
        charset = _CHARSET.search(head)
        if charset is not None:
            yield Value(Part.CHARSET, charset[1])
        if rest:
            contents = shorten(rest[0].strip("\r\n"))
            # A zero ends a path where a field has one. Contents of files are full of them.
            yield Value(Part.TEXT, contents if file is None else contents.replace("\0", " "))


VALUES_MAX = 200  # Of one request.
_PAIRS_MAX: Final = 96  # Names and values of a form.
_ROUNDS = 3
_SEGMENTS_MAX: Final = 32  # Of a path that may be in base64.
_DEPTH_MAX = 8
_SEPARATOR = re.compile(r"[&;](?=[^&;=]*=)|&")
_COOKIES = re.compile(r";\s*")
_URL: Final = re.compile(r"\bhttps?://([^/?#\s@]+)(?=[/?#]|\Z)", re.IGNORECASE)
# Where a file is copied or moved to: a URL of the server that is called (RFC 4918, section 10.3).
_TARGET: Final = "destination"
_REFERRED: Final = re.compile(r"[?&]")
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})|\\x([0-9a-fA-F]{2})|%u([0-9a-fA-F]{4})")
_COMMENT = re.compile(r"/\*!?\d*(.{0,200}?)\*/", re.DOTALL)
_FORM_PARTS: Final = frozenset({Part.QUERY_NAME, Part.QUERY, Part.FIELD})
_NAMED_PARTS: Final = frozenset({Part.QUERY_NAME, Part.FIELD})
_PAIR: Final = re.compile(r"[\w.%\[\]-]{1,64}=(.+)", re.DOTALL)  # What shows only after decoding.
_OTHER_BODIES: Final = ("{", "[", "<", "")  # How bodies begin that are no form, and do not say what they are.
# Two bytes that old decoders took for `.`, `/` and `\`.
_OVERLONG = {
    b"\xc0\xae": b".",
    b"\xc0\xaf": b"/",
    b"\xc1\x9c": b"\\",
    b"\xc0\x2e": b".",
    b"\xc0\x2f": b"/",
    b"\xc0\x5c": b"\\",
}
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]{7,}={0,2}\Z")
_BASE64_MIN: Final = 7
# How nine or more characters of printable ASCII begin in base64; one random text of 3,000 does, too.
PRINTED_BASE64: Final = (
    r"(?-i:(?:^|[/?=&])(?:[I-Za-f][C-HS-Xi-nyz0-3][ABEFIJMNQRUVYZcdghklopstwx014589][\w-]){3}[\w-]*(?:[/?&=]|$))"
)
_HIDDEN: Final = Rule("base64", AttackClass.PROTOCOL, PRINTED_BASE64, is_sure=False)  # Worth a look, no attack.
_PRINTED_MIN: Final = 0.9  # Of what base64 gives, or it was none.
# Marks that databases and browsers fold to those of ASCII, or do not see.
_FOLDED: Final = str.maketrans(
    "\u2018\u2019\u02bc\u201c\u201d\u2215\u2044\u2216", "'''\"\"//\\", "\u200b\u200c\u200d\u2060\ufeff"
)
# `<` and `>` with the high bit set, which readers of seven bits drop.
_HIGH_BIT: Final = re.compile("\u00bc(\\w[^\u00bc\u00be]*)\u00be([^\u00bc\u00be]*)\u00bc/(\\w+)[^\u00bc\u00be]?\u00be")
# Entities that browsers know in small letters only.
_ENTITIES: Final = re.compile(r"&(tab|newline|colon);", re.IGNORECASE)


def list_values(request: Request) -> list[Value]:
    """Names and values of a request, decoded, at most VALUES_MAX."""
    found: list[Value] = []
    for part, text in _split(request):
        values = read_value(text, is_form=part in _FORM_PARTS)
        if request.is_own_host:
            values = [_drop_own_host(value, request.host) for value in values]
        if part in _NAMED_PARTS and (len(values) > 1 or values[:1] != [text]):
            values += [pair[1] for value in values if (pair := _PAIR.match(value)) is not None]
        found += (Value(part, value) for value in values)
        if len(found) >= VALUES_MAX:
            break
    return found[:VALUES_MAX]


def read_value(value: str, *, is_form: bool = True) -> list[str]:
    """A value decoded; of JSON its names and leaves; of base64 both readings. `is_form`: a plus is a blank."""
    decoded = decode(value, is_form=is_form)
    bare = decoded.strip()
    if bare[:1] in ("{", "[") and bare[-1:] in ("}", "]"):
        leaves = _read_json(value if value.lstrip()[:1] == bare[:1] else bare)
        if leaves is not None:
            return leaves
    return _read_all(decoded)


def decode(value: str, *, is_form: bool = True) -> str:
    """As a server, its framework and a browser may decode it one after the other. Never raises."""
    text = shorten(value)
    if not text.isascii():  # JSON may hold half a pair of surrogates, which has no UTF-8.
        text = text.encode("utf-8", "replace").decode("utf-8")
    if is_form:
        text = text.replace("+", " ")
    for _ in range(_ROUNDS):
        raw = unquote_to_bytes(text)
        if b"\xc0" in raw or b"\xc1" in raw:
            for overlong, plain in _OVERLONG.items():
                raw = raw.replace(overlong, plain)
        plainer = raw.decode("utf-8", "replace")
        if "\\" in plainer or "%u" in plainer:
            plainer = _ESCAPE.sub(_read_escape, plainer).encode("utf-8", "replace").decode("utf-8")
        if plainer == text:
            break
        text = plainer
    if "&" in text:
        text = html.unescape(_ENTITIES.sub(lambda found: {"t": "\t", "n": "\n", "c": ":"}[found[1][0].lower()], text))
    if text.isascii():
        return text
    return unicodedata.normalize("NFKC", _HIGH_BIT.sub(r"<\1>\2</\3>", text)).translate(_FOLDED)


def _read_escape(found: re.Match[str]) -> str:
    return chr(int(next(group for group in found.groups() if group), 16))


def _read_all(text: str) -> list[str]:
    """A decoded text as it is, without its comments, and what it holds in base64."""
    found = [text]
    if "/*" in text:
        found.append(_COMMENT.sub(r" \1 ", text))
    hidden = _read_base64(text.strip())
    if hidden:
        found.append(decode(hidden, is_form=False))
    return found


def _split(request: Request) -> Iterator[Value]:
    yield Value(Part.PATH, request.path)
    for segment in request.path.split("/", _SEGMENTS_MAX + 1)[1 : _SEGMENTS_MAX + 1]:
        hidden = _read_base64(unquote(segment)) if len(segment) >= _BASE64_MIN else ""
        if hidden:
            yield Value(Part.PATH, hidden)
    for pair in _cut(_SEPARATOR.split(request.query)):
        name, _, value = pair.partition("=")
        if name:
            yield Value(Part.QUERY_NAME, name)
        if value:
            yield Value(Part.QUERY, value)
    for name, value in request.headers:
        if name == "cookie":
            for pair in _COOKIES.split(value):
                yield from (Value(Part.TEXT, text) for text in pair.split("=", 1) if text)
        elif not is_passed_over(name, value):
            yield Value(find_part(name), _drop_own_host(value, request.host) if name == _TARGET else value)
            if name == "referer":  # Analytics take its parameters apart.
                yield from (Value(Part.TEXT, pair.partition("=")[2]) for pair in _REFERRED.split(value)[1:])
    if request.body:
        yield from _split_body(request.body, request.content_type)


def _drop_own_host(text: str, host: str) -> str:
    """A text whose URLs of `host` begin with their paths: they lead nowhere else than the call itself did."""
    return _URL.sub(lambda found: "" if found[1].lower() == host.lower() else found[0], text) if "//" in text else text


def _cut(pairs: list[str]) -> list[str]:
    """The first and the last pairs: what is between them may be padding."""
    return pairs if len(pairs) <= _PAIRS_MAX else pairs[: _PAIRS_MAX // 2] + pairs[-_PAIRS_MAX // 2 :]


def _split_body(body: str, content_type: str) -> Iterator[Value]:
    if is_multipart(content_type):
        yield from list_fields(body)
        return
    is_form = "form-urlencoded" in content_type or (not content_type and body.lstrip()[:1] not in _OTHER_BODIES)
    if not is_form or "=" not in body:
        yield Value(Part.FIELD if is_form else Part.TEXT, body)
    else:
        for pair in _cut(body.split("&")):
            yield from (Value(Part.FIELD, text) for text in pair.split("=", 1) if text)


def _read_json(text: str) -> list[str] | None:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return [value for leaf in _list_leaves(document, 0) for value in _read_all(decode(leaf, is_form=False))][
        :VALUES_MAX
    ]


def _list_leaves(document: Any, depth: int) -> Iterator[str]:
    if depth > _DEPTH_MAX:
        return
    if isinstance(document, dict):
        for name, value in document.items():
            yield str(name)
            yield from _list_leaves(value, depth + 1)
    elif isinstance(document, list):
        for value in document:
            yield from _list_leaves(value, depth + 1)
    elif isinstance(document, str):
        yield document


def _read_base64(text: str) -> str:
    """What a value holds in base64, where that is text; else empty."""
    if not _BASE64.match(text):
        return ""
    plain = text.rstrip("=").replace("-", "+").replace("_", "/")
    if len(plain) % 4 == 1:
        return ""
    try:
        raw = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except ValueError:
        return ""
    printed = sum(0x20 <= byte < 0x7F or byte in b"\t\r\n" for byte in raw)
    return raw.decode("latin-1") if printed >= _PRINTED_MIN * len(raw) else ""


_ORDER = {kind: place for place, kind in enumerate(AttackClass)}
_NARROW = frozenset({AttackClass.LOG4SHELL, AttackClass.XXE})  # What is like them is often of a wider class, too.
_WORD = re.compile(r"[\w.-]*\Z", re.ASCII)  # Rules with gaps are not asked of it.
# A product of a User-Agent (RFC 9110, section 10.1.5): a name, a slash and a version that begins with a digit.
_PRODUCT = re.compile(r"\b[A-Za-z][\w.-]*/v?\d[\w.+~-]*", re.ASCII)
_LOOSE_MIN: Final = 3  # Loose rules of one class that count in prose.
_SHORT = 3  # Words of so many letters are no payload.


class AttackClassifier:
    """Rules compiled once: with the core rules some 80 ms and 7 MB, 31 MB where many payloads come. Not thread-safe."""

    def __init__(self, keyed_hash: Callable[[bytes], int], core_rules: Sequence[Rule] = ()) -> None:
        """`keyed_hash` gives 64 bits, never 0. Rules that RE2 has no syntax for are left out and counted."""
        self._hash = keyed_hash
        rules = (*core_rules, *OWN_RULES)
        self._everywhere = RuleMatcher([_HIDDEN, *(rule for rule in rules if rule.part is None)])
        placed = {rule.part for rule in rules if rule.part is not None}
        self._placed = {part: RuleSet([rule for rule in rules if rule.part is part]) for part in placed}
        self.left_out = [*self._everywhere.left_out, *(name for own in self._placed.values() for name in own.left_out)]

    def classify(self, request: Request) -> Attack | None:
        """The attack in a request, the surest of its values; None where there is none."""
        found = self.find(request)
        return found[0] if found is not None else None

    def find(self, request: Request) -> tuple[Attack, str] | None:
        """The surest attack of a request, and its value, which is not to leave the node."""
        return self.find_in(list_values(request)) or self._find_misconduct(request)

    def find_in(self, values: Iterable[Value]) -> tuple[Attack, str] | None:
        """The surest attack in decoded values, and the value."""
        found: tuple[Attack, str] | None = None
        for value in values:
            attack = self.classify_value(value.text, value.part)
            if attack is not None and (found is None or attack.confidence > found[0].confidence):
                found = attack, value.text
        return found

    def is_odd(self, text: str) -> bool:
        """Whether a text that is not decoded holds what a rule looks for; a first look at plain ones."""
        return bool(self._everywhere.match_plain(text))

    def classify_value(self, text: str, part: Part = Part.TEXT) -> Attack | None:
        """The same of one decoded value."""
        if len(text) <= _SHORT and text.isalnum():
            return None
        matched = self._match(text, part)
        if not matched:
            return None
        votes = Counter(rule.attack_class for rule in matched)
        kind = min(votes, key=lambda kind: (kind not in _NARROW, -votes[kind], _ORDER[kind]))
        return self._make_attack(kind, len(matched) > 1 or any(rule.is_sure for rule in matched), text)

    def _match(self, text: str, part: Part, *, is_bare: bool = False) -> list[Rule]:
        """Rules that match; `is_bare`: what only formats was removed already."""
        whole = text
        if part is Part.AGENT:
            text = _PRODUCT.sub(" ", text)  # `Docker-Client/27.3`, `APT-HTTP/1.3` are no commands and no protocols.
        is_word = _WORD.match(text)
        found = self._everywhere.match_plain(text) if is_word else self._everywhere.match(text)
        placed = self._placed.get(part)
        if placed is not None:
            found += placed.match(whole)
        bare = None if is_word else strip_quoting(text)
        if bare is not None:
            found += [rule for rule in self._everywhere.match(bare) if rule.attack_class is AttackClass.RCE]
        if part is Part.ORIGIN:
            found = [rule for rule in found if rule.attack_class is not AttackClass.SSRF]
        found = [rule for rule in found if rule is not _HIDDEN]
        return self._weigh(found, text, part, is_bare=is_bare) if found else found

    def _weigh(self, found: list[Rule], text: str, part: Part, *, is_bare: bool) -> list[Rule]:
        """Those of the matching rules that count in a text of this kind: ordinary markup and prose match many."""
        bare = text if is_bare else strip_markup(text)
        is_prose = is_document(bare)
        if is_prose and not is_bare:
            bare = strip_marks(bare)
        if bare != text:
            return self._match(bare, part, is_bare=True)
        if is_prose:
            loose = Counter(kind for _, kind in {(rule.name, rule.attack_class) for rule in found if rule.is_loose})
            return [rule for rule in found if not rule.is_loose or loose[rule.attack_class] >= _LOOSE_MIN]
        if is_search(text):
            return [rule for rule in found if not rule.is_loose or rule.attack_class is not AttackClass.SQLI]
        return found

    def _find_misconduct(self, request: Request) -> tuple[Attack, str] | None:
        """What is wrong with a request as a whole, where no value is."""
        found = find_misconduct(request)
        return None if found is None else (self._make_attack(found.attack_class, False, found.text), found.text)

    def _make_attack(self, kind: AttackClass, is_sure: bool, text: str) -> Attack:
        confidence = AttackConfidence.HIGH if is_sure else AttackConfidence.MEDIUM
        return Attack(kind, confidence, self._hash(text.encode("utf-8", "surrogatepass")))
