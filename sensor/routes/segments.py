"""Classifies a path segment by its form alone: a parameter of a known shape, an API word, a pattern, or another word.

Takes the text of one segment as it stands in the path (percent-encoded) and gives a `Shape`. A pattern is a literal
around a parameter. Pure and context-free, so that the same segment has the same shape on every node. What depends on
neighbours is `sensor.routes.trie`'s: too many different words, version numbers. The tests run from cheap and certain to
doubtful.
"""

import re
from itertools import pairwise
from typing import Final
from urllib.parse import unquote

import msgspec

from sensor.core.calls import Route, SegmentKind
from sensor.routes.vocabulary import Vocabulary, split_word

# Longer segments are values whatever they hold; the longest literal of the development documents has
# 62 characters.
MAX_SEGMENT_CHARACTERS: Final = 200
MAX_MOUNT_CHARACTERS: Final = 40
MIXED_CHARACTERS: Final = 20

_UUID: Final = r"\{?[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}\}?"
_DATE: Final = r"(?:19|20)\d\d-(?:0[1-9]|1[0-2])(?:-(?:0[1-9]|[12]\d|3[01])(?:[T _]\d\d:?\d\d.*)?)?"
_RELEASE: Final = r"[vV]?\d{1,6}(?:\.\d{1,6}){1,3}(?:[-+.][0-9A-Za-z.-]+)?"
# ISO 639-1 codes that are no English words of paths; ISO 3166 codes matter only in upper case, where _UPPER takes them.
_LANGUAGES: Final = (
    "en|de|fr|es|ja|pt|nl|pl|zh|ko|sv|tr|ru|ar|cs|da|fi|nb|nn|he|hi|th|vi|uk|ro|hu|el|bg|sk|sl|et|lv|lt|fa|ur|bn|ta|te|"
    "sr|ca|eu|gl"
)
_WITH_DIGIT: Final = r"(?=\D*\d)"
# Segments that are one parameter by their form: kind, expression, and what it is or where it is defined. The first one
# that matches the whole segment decides.
FORMS: Final = (
    (SegmentKind.UUID, _UUID, "RFC 9562 section 4, any version, in braces too"),
    (SegmentKind.EMAIL, r"[^@\s/]+@[^@\s/]+\.[A-Za-z]{2,}", "RFC 5322 addr-spec, as people have it"),
    (
        SegmentKind.ULID,
        r"[0-7][0-9A-HJKMNP-TV-Z]{25}",
        "github.com/ulid/spec, 26 characters, the first at most 7",
    ),
    (SegmentKind.HEX, _WITH_DIGIT + r"(?:0x)?(?:[0-9a-f]{7,}|[0-9A-F]{7,}|[0-9A-Fa-f]{16,})", "digests, object ids"),
    (SegmentKind.DATE, _DATE, "ISO 8601 calendar dates and times, years 1900-2099"),
    (SegmentKind.TOKEN, r"[-+]?\d+[.,]\d+", "decimal numbers"),
    (SegmentKind.TOKEN, r"\+\d{6,15}", "E.164 telephone numbers"),
    (SegmentKind.TOKEN, _RELEASE, "semver.org, and releases like it"),
    (SegmentKind.TOKEN, _WITH_DIGIT + r"[0-9A-Fa-f:]{2,}:[0-9A-Fa-f:.]*(?:/\d+)?", "RFC 4291 addresses and networks"),
    (SegmentKind.TOKEN, r"""(?s:.*[ ,'"<>|=&%?#\\*+\x7f-\U0010ffff].*)""", "characters that no name of an API has"),
    (SegmentKind.TOKEN, r"[a-z]{2,3}[-_](?:[A-Z]{2}|[A-Z][a-z]{3}|419)(?:[-_][A-Z]{2})?", "BCP 47 language tags"),
    (SegmentKind.TOKEN, _LANGUAGES, "ISO 639-1"),
    (SegmentKind.TOKEN, r"(?i:true|false)", "JSON, RFC 8259 section 3"),
    (SegmentKind.TOKEN, r"(?:[A-Za-z][\w.-]*:){2,}\S+", "RFC 8141 URNs, cloud resource names"),
)
_KINDS: Final = tuple(kind for kind, _, _ in FORMS)
_FORM: Final = re.compile("|".join(f"({expression})\\Z" for _, expression, _ in FORMS))

# Long with both cases and two digits: decided by that alone, so that the kernel can do the same (SegmentClass.TOKEN).
_MIXED = re.compile(rf"(?!{_UUID}\Z)(?=.*[a-z])(?=.*[A-Z])(?=(?:.*[0-9]){{2}})[0-9A-Za-z_-]+\Z", re.ASCII)
_VERSION = re.compile(r"[vV]\d{1,3}(?:\.\d{1,3})?(?:[-_.]?(?:alpha|beta|rc|p)\d{0,4}(?:[a-z]{0,6}\d{0,3}))?\Z")
_RELEASE_OR_DATE = re.compile(rf"(?:(?![^.]*\.[^.]*\.){_RELEASE}|{_DATE})\Z")  # Of a release, with one dot.
_DOMAIN = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,18}\Z")
# Cloud regions and zones: continent or country, direction, number.
_REGION = re.compile(r"(?:[a-z]{2,12}-){1,3}[a-z]{0,12}\d{1,2}[a-z]?\Z")
_REGION_WORDS = frozenset(
    (
        "us", "eu", "ap", "sa", "ca", "me", "af", "cn", "il", "mx", "asia", "europe", "northamerica", "southamerica",
        "australia", "africa", "gov", "nyc", "sfo", "ams", "fra", "lon", "sgp",
    )
)  # fmt: skip
_CODE = re.compile(r"[A-Z]{1,6}[-_]?\d[\dA-Z]*\Z")
_UPPER = re.compile(r"[A-Z]{2,5}\Z")
_PREFIXED = re.compile(r"[A-Za-z]{1,12}[_:-](?=[A-Za-z0-9_-]*\d)[A-Za-z0-9]{8,}\Z")
_SLUG_NUMBER = re.compile(r"[A-Za-z]+(?:[-_][A-Za-z]+)*[-_]?\d{1,4}\Z")
_EXTENSIONS = frozenset(
    (
        "json", "xml", "csv", "txt", "pdf", "html", "htm", "js", "css", "png", "jpg", "jpeg", "gif", "svg", "webp",
        "ico", "zip", "gz", "tar", "tgz", "yaml", "yml", "md", "rss", "atom", "ics", "vcf", "xls", "xlsx", "doc",
        "docx", "ppt", "pptx", "mp3", "mp4", "m3u8", "ts", "webm", "wav", "php", "asp", "aspx", "jsp", "do", "action",
        "ashx", "svc", "cgi", "geojson", "kml", "kmz", "gpx", "jsonld", "rdf", "ttl", "nt", "jsonp", "ndjson",
        "parquet", "bin", "dat", "log", "sql", "map", "woff", "woff2", "ttf", "rtf", "odt", "tsv", "pb", "proto",
        "avro", "wsdl", "xsd", "xhtml", "jsonl", "bmp", "tiff", "eps", "mov", "avi", "mpg", "ogg", "flac",
    )
)  # fmt: skip
# ISO 3166 and ISO 4217 codes that are words in lower case too.
_CODES = frozenset(
    (
        "US", "IN", "IT", "ID", "IS", "NO", "SO", "AS", "AT", "BE", "BY", "DO", "ME", "MY", "CA", "DE", "ES", "FR",
        "GB", "PL", "CN", "KR", "SE", "MX", "AU", "ZA", "NG", "EG", "JP", "BR", "NL", "USD", "EUR", "ALL", "TOP", "TRY",
        "ZAR",
    )
)  # fmt: skip
# The generic and frequent country domains: enough to tell a host name from `john.smith`.
_TOP_LEVEL = frozenset(
    (
        "com", "org", "net", "io", "dev", "app", "co", "uk", "de", "fr", "nl", "eu", "us", "ca", "au", "jp", "cn", "in",
        "br", "ru", "it", "es", "ch", "se", "no", "fi", "dk", "pl", "cz", "at", "be", "info", "biz", "cloud", "ai",
        "me", "tv", "local", "internal", "example", "test", "lan", "corp", "edu", "gov", "mil", "int", "xyz", "online",
        "site", "tech", "store",
    )
)  # fmt: skip
# Action of a custom method (`{id}:cancel`, google.aip.dev/136) and matrix parameters (RFC 3986 section 3.3).
_ACTION = re.compile(r"([^:;]+):([a-z][A-Za-z_-]{2,40})\Z")
# Keys of OData (`Products(5)`, `Orders(id=7)`), odata.org URL conventions 4.3.
_KEYED = re.compile(r"([A-Za-z_.]{2,60})\(([^()]*)\)\Z")
# Names that begin with a sign are the server's own: `/-/`, `/_all_docs`, `/+login`. `@` and `~` begin names of users.
_SIGNED = re.compile(r"[-_+$.!](?:[A-Za-z]+(?:[-_][A-Za-z]+)*)?\Z")
_VOWEL = re.compile(r"[aeiouyAEIOUY]")


class Shape(msgspec.Struct, frozen=True):
    """What one segment is. `text` is the literal, or the pattern with `{}` in place of its parameter, and `value` is
    the parameter's."""

    kind: SegmentKind
    text: str = ""
    value: str = ""

    def __repr__(self) -> str:
        return f"Shape({self.kind.name}, values redacted)"


def is_version(text: str) -> bool:
    """`v1`, `v2.1`, `v1beta1`: always literal. `1.4.2`, with or without v, is a release of something: a value."""
    return _VERSION.match(text) is not None


def is_release(text: str) -> bool:
    """`2.0`, `1.1`, `2010-04-01` or a small number: a version where an API begins, a value elsewhere."""
    return (text.isdigit() and len(text) <= 2) or _RELEASE_OR_DATE.match(text) is not None


def is_mount(text: str) -> bool:
    """Whether a first segment may be where an API is mounted though it looks like a value: a host name or a short code.

    It then goes as a word, so that its text is reported only once revealed.
    """
    digits = sum(character.isdigit() for character in text)
    return len(text) <= MAX_MOUNT_CHARACTERS and digits <= 2 and text.replace(".", "").replace("-", "").isalnum()


def _find_parameter(text: str) -> SegmentKind | None:
    """Kind of a segment that is one parameter by its form; None for words."""
    if text.isdigit() or (text[0] in "-+" and text[1:].isdigit() and len(text) < 7):
        return SegmentKind.INTEGER if text.isascii() else SegmentKind.TOKEN
    match = _FORM.match(text)
    return _KINDS[match.lastindex - 1] if match is not None and match.lastindex is not None else None


def _is_random(text: str, vocabulary: Vocabulary) -> bool:
    """Whether letters (and digits) are mixed as no word mixes them: base62, base64url, nanoid, codes, prefixed ids."""
    digits = sum(character.isdigit() for character in text)
    if digits:
        if _CODE.match(text) or _PREFIXED.match(text):
            return True
        if text[0].isdigit() and digits < len(text):
            return True
        if _SLUG_NUMBER.match(text) and not (any(c.isupper() for c in text[1:]) and any(c.islower() for c in text)):
            return False
        return len(text) >= 5
    if len(text) < 7 or "-" in text or "_" in text or "." in text:
        parts = re.split(r"[-_.]", text)
        return len(text) >= 16 and any(len(part) >= 10 and _is_jumbled(part) for part in parts)
    return _is_jumbled(text)


def _is_jumbled(text: str) -> bool:
    """Letters only: upper and lower case alternate far more often than camelCase does, or there is hardly a vowel."""
    turns = sum(a.islower() != b.islower() for a, b in pairwise(text))
    if turns >= 3 and turns > len(text) / 3:
        return True
    return len(text) >= 8 and len(_VOWEL.findall(text)) < len(text) / 8


def _read_pattern(text: str, vocabulary: Vocabulary) -> Shape | None:
    """A parameter inside a literal: `{id}.json`, `{id}:cancel`, `Products({id})`, `{id};v=1`."""
    if ";" in text:
        before = text.partition(";")[0]
        return classify_segment(before, vocabulary) if before else Shape(SegmentKind.TOKEN, value=text)
    if text[-1] == ")":
        match = _KEYED.match(text)
        if match and vocabulary.is_api_word(match.group(1)):
            inner = match.group(2)
            return Shape(SegmentKind.LITERAL, f"{match.group(1)}({'{}' if inner else ''})", inner)
    if ":" in text:
        match = _ACTION.match(text)
        if match and vocabulary.is_api_word(match.group(2)):
            head = classify_segment(match.group(1), vocabulary)
            if head.kind is SegmentKind.LITERAL:
                return Shape(SegmentKind.LITERAL, f"{head.text}:{match.group(2)}", head.value)
            return Shape(SegmentKind.LITERAL, f"{{}}:{match.group(2)}", match.group(1))
    stem, dot, extension = text.rpartition(".")
    if dot and stem and extension.lower() in _EXTENSIONS:
        head = classify_segment(stem, vocabulary)
        if head.kind is SegmentKind.LITERAL:
            return Shape(SegmentKind.LITERAL, f"{head.text}.{extension}", head.value)
        if head.kind is SegmentKind.WORD:
            return head if len(text) > MAX_SEGMENT_CHARACTERS else Shape(SegmentKind.WORD, value=text)
        return Shape(SegmentKind.LITERAL, f"{{}}.{extension}", stem)
    return None


def classify_segment(raw: str, vocabulary: Vocabulary) -> Shape:
    """Shape of one segment. Never raises; costs 1-15 us, so callers keep the answers for words."""
    if raw.isdigit() and raw.isascii():
        return Shape(SegmentKind.INTEGER, value=raw)
    text = unquote(raw) if "%" in raw else raw
    if len(text) >= MIXED_CHARACTERS and _MIXED.match(text):
        return Shape(SegmentKind.TOKEN, value=text)
    if not text or len(text) > MAX_SEGMENT_CHARACTERS:
        return Shape(SegmentKind.TOKEN, value=text)
    if is_version(text):
        return Shape(SegmentKind.LITERAL, text)
    if any(character in ":;)." for character in text[1:]):
        pattern = _read_pattern(text, vocabulary)
        if pattern is not None:
            return pattern
    if _SIGNED.match(text) and not vocabulary.is_name(text):
        return Shape(SegmentKind.LITERAL, text)
    kind = _find_parameter(text)
    if kind is not None:
        return Shape(kind, value=text)
    if _UPPER.match(text) and (text in _CODES or not vocabulary.is_api_word(text)):
        return Shape(SegmentKind.TOKEN, value=text)
    if _REGION.match(text) and split_word(text)[0] in _REGION_WORDS:
        return Shape(SegmentKind.TOKEN, value=text)
    # Host names are values, or names of API groups (`networking.k8s.io`): what stands beside them decides.
    if _DOMAIN.match(text) and text.rpartition(".")[2].lower() in _TOP_LEVEL:
        return Shape(SegmentKind.WORD, value=text)
    if vocabulary.is_api_word(text):
        return Shape(SegmentKind.LITERAL, text)
    if _is_random(text, vocabulary):
        return Shape(SegmentKind.TOKEN, value=text)
    return Shape(SegmentKind.WORD, value=text)


def format_template(route: Route) -> str:
    """The route's path as it may be shown: words that were not revealed and parameters by their kind."""
    parts = [
        segment.text
        if segment.text
        else "{" + segment.kind.name.lower() + "}"
        if segment.kind is not SegmentKind.LITERAL
        else ""
        for segment in route.segments
    ]
    if parts == ["*"]:
        return "*"
    return "/" + "/".join(parts) + ("/" if route.has_trailing_slash and parts else "")
