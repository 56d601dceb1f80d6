"""Decides which segments at one position are values of one parameter, on a trie of the routes of a (service, host).

A `Position` follows each prefix, with its calls. Words and literals are children by hash or text. All shapes of
parameter are one child. The trie is mutable while routes are joined, and does not outlive one mapping.

`find_values` gives the children that are joined. Everybody calls a literal, and it has an API of its own below it. Few
call a value, and what is below one value is below the others too. The rules look at words first, because the sensor
knows no meaning for them. Then come literals beside an open set of words, numbers at the place of versions, and file
names. What was never served (only 404) proves nothing and is not counted.

The thresholds were chosen on the traffic of 152 published API descriptions with two sets of names
(docs/internals/templates.md). Each says what it stands for.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from collector.core.rows import Route, Segment
from collector.inventory.naming import LITERAL, WORD

PARAMETER: Final = 10  # proto SegmentKind.
# Routes called less often tell little of how often an endpoint of this service is called.
MIN_ENDPOINT_CALLS: Final = 3
# How far below a position named things are compared: /apis/{group}/v1/namespaces has its names at two and three.
NAMES_DEPTH: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteEvidence:
    """One route and what was seen of it."""

    route: Route
    calls: int
    served_calls: int  # 2xx.
    is_rpc: bool = False  # The path ends in the names of a service and a method.
    answer: str = ""  # Media type and fields of what is answered with 2xx; empty where none was read.


Key = tuple[int, str, int]
VALUE: Final[Key] = (PARAMETER, "", 0)


class Position:
    """One position of the trie of routes; words and literals by text or hash, all shapes of parameter as `VALUE`."""

    __slots__ = ("calls", "children", "is_counted", "kinds", "routes", "served")

    def __init__(self) -> None:
        self.children: dict[Key, Position] = {}
        self.calls = 0
        self.served = 0
        self.is_counted = False  # The sensor met too many words here and folded the rest (PARAMETER).
        self.kinds: dict[int, int] = {}  # Calls by kind of the segment that led here.
        self.routes: list[RouteEvidence] = []

    def insert(self, evidence: RouteEvidence) -> None:
        """A route, below this root."""
        node = self
        for segment in evidence.route.segments:
            node.calls += evidence.calls
            node.served += evidence.served_calls
            node.is_counted = node.is_counted or segment.kind == PARAMETER
            node = node.children.setdefault(find_key(segment), Position())
            node.kinds[segment.kind] = node.kinds.get(segment.kind, 0) + evidence.calls
        node.calls += evidence.calls
        node.served += evidence.served_calls
        node.routes.append(evidence)

    def absorb(self, source: "Position") -> None:
        """Takes over a sibling; the two are one position from now on."""
        self.calls += source.calls
        self.served += source.served
        self.is_counted = self.is_counted or source.is_counted
        for kind, calls in source.kinds.items():
            self.kinds[kind] = self.kinds.get(kind, 0) + calls
        self.routes += source.routes
        for key, child in source.children.items():
            if key in self.children:
                self.children[key].absorb(child)
            else:
                self.children[key] = child

    def absorb_copy(self, source: "Position") -> None:
        """`absorb` of routes alone and without sharing positions, for comparison only."""
        self.routes += source.routes
        for key, child in source.children.items():
            self.children.setdefault(key, Position()).absorb_copy(child)

    def has_names(self) -> bool:
        """Whether a literal stands right below."""
        return any(kind == LITERAL for kind, _, _ in self.children)

    def find_forms(self) -> set[str]:
        """What stands right below: the methods that end here, `/text` of literals, and `/*` for all else."""
        forms = {evidence.route.method for evidence in self.routes}
        return forms | {f"/{text}" if kind == LITERAL else "/*" for kind, text, _ in self.children}

    def find_names(self, prefix: str = "", depth: int = NAMES_DEPTH) -> set[str]:
        """Paths to the literals up to `depth` levels below, `*` for all else on the way."""
        names: set[str] = set()
        if depth:
            for (kind, text, _), child in self.children.items():
                path = f"{prefix}/{text}" if kind == LITERAL else f"{prefix}/*"
                if kind == LITERAL:
                    names.add(path)
                names |= child.find_names(path, depth - 1)
        return names

    def find_calls(self, prefix: str = "", depth: int = NAMES_DEPTH) -> set[str]:
        """Methods that were served here and up to `depth` levels below, each with its path: `*` for what is no literal,
        0 for numbers."""
        calls = {f"{method} {prefix}" for method in self.list_served_methods()}
        if depth:
            for (kind, text, _), child in self.children.items():
                name = _DIGITS.sub("0", text) if kind == LITERAL else "*"
                calls |= child.find_calls(f"{prefix}/{name}", depth - 1)
        return calls

    def find_answers(self, prefix: str = "", depth: int = NAMES_DEPTH) -> dict[str, str]:
        """The answers of `find_calls` that were read, by call."""
        found = {f"{one.route.method} {prefix}": one.answer for one in self.routes if one.served_calls and one.answer}
        if depth:
            for (kind, text, _), child in self.children.items():
                name = _DIGITS.sub("0", text) if kind == LITERAL else "*"
                found |= child.find_answers(f"{prefix}/{name}", depth - 1)
        return found

    def list_served_methods(self) -> set[str]:
        """Methods that were answered 2xx here."""
        return {evidence.route.method for evidence in self.routes if evidence.served_calls}

    def list_rich_answers(self) -> set[str]:
        """Answers to GET with so many fields that no other endpoint answers so."""
        own = [one.answer for one in self.routes if one.served_calls and one.route.method == "GET"]
        return {answer for answer in own if answer.count("/") > MIN_ANSWER_FIELDS}

    def is_inside(self, other: "Position") -> bool:
        """Whether every path below here also exists below `other` (methods included)."""
        methods = {evidence.route.method for evidence in other.routes}
        if any(evidence.route.method not in methods for evidence in self.routes):
            return False
        return all(
            (key in other.children and child.is_inside(other.children[key]))
            or (key[0] == WORD and any(child.is_inside(candidate) for candidate in other.children.values()))
            for key, child in self.children.items()
        )

    def measure_endpoint_calls(self) -> float:
        """Mean calls of a (path, method) below this root, of those called a few times; 0 where there are none."""
        endpoints = calls = 0
        pending = [self]
        while pending:
            node = pending.pop()
            own = sum(evidence.calls for evidence in node.routes)
            if own >= MIN_ENDPOINT_CALLS:
                endpoints += len({evidence.route.method for evidence in node.routes if evidence.served_calls})
                calls += own
            pending += node.children.values()
        return calls / endpoints if endpoints else 0.0


def find_key(segment: Segment) -> Key:
    """Which child of a position a segment leads to."""
    if segment.kind == LITERAL:
        return (LITERAL, segment.text, 0)
    return (WORD, "", segment.hash) if segment.kind == WORD else VALUE


# An open set has at least so many different words...
MIN_OPEN_WORDS: Final = 4
# ... after a parameter, where sub-resources have their names, so many ...
MIN_OPEN_WORDS_AFTER_VALUE: Final = 6
# ... or so few, where shapes of parameters stand beside them or most were met once or twice.
MIN_THIN_WORDS: Final = 2
THIN_CALLS: Final = 2
# Mean calls a word above which a set of few words is of literals: each literal of an API is an endpoint with traffic of
# its own.
MAX_MEAN_CALLS: Final = 4.0
# Share of words met once or twice from which on a set is open: an estimate of unseen values (Good and Turing).
MIN_THIN_SHARE: Final = 0.25
MOSTLY_THIN_SHARE: Final = 0.5
# Words that have no more than this share of the calls beside a parameter of known shape are odd values of it.
MAX_BESIDE_SHARE: Final = 0.05
# Share of a position's words that API words without names below may have to be taken for values of the set.
MAX_LITERAL_SHARE: Final = 0.6
# From so many words on, the most called one shows how often a value may be called.
MIN_POPULAR_WORDS: Final = 8
# A literal called less than this share of what endpoints of the service are called is none of them.
RARE_SHARE: Final = 0.25
# So many words with the same literals below them are values, however often each is called.
MIN_ALIKE_WORDS: Final = 4
MIN_ALIKE_WORDS_AFTER_VERSION: Final = 8
MIN_ALIKE_SHARE: Final = 0.7
MIN_ALIKE_ANSWERS: Final = 2
MIN_AGREEING_SHARE: Final = 0.8  # An error page among the answers of one is no difference.
# A word with so many names below it, of which its siblings have no more than this share, has an API of its own.
MIN_OWN_NAMES: Final = 3
MAX_SHARED_NAMES: Final = 0.34
# From so many different file extensions on, `{}.ext` siblings are one parameter.
MIN_EXTENSIONS: Final = 3
MIN_STEMS: Final = 2  # Names with and without a format.
# So many siblings that differ in a number only are values, however small the number.
MIN_NUMBERED: Final = 8
MIN_NUMBERED_NAMES: Final = 3  # Of files, and where clients make or delete each of them.
CODE_CHARACTERS_MAX: Final = 3
# So many API words that clients make or change by name are values: beside values, or as all of a collection ...
MIN_WRITTEN: Final = 4
ONLY_SHARE: Final = 0.8
# One alone is a value if it is called with the same methods, and with so many.
MIN_METHODS: Final = 3
# ... and so few where they have the same below them.
MIN_WRITTEN_ALIKE: Final = 2
_WRITES: Final = frozenset(("PUT", "PATCH", "DELETE", "MKCOL", "MKCALENDAR", "PROPPATCH"))
# So many with the same answers are values, if nothing else is at their position ...
MIN_TWINS: Final = 3
# So many with nothing below them are values where all have the same methods, so many, and the same answers.
MIN_SAME: Final = 8
MIN_SAME_METHODS: Final = 2
# ... or with very much below them, or, if more, with so much.
MANY_TWIN_FORMS: Final = 6
MIN_TWIN_FORMS: Final = 3
# An answer with more fields than this is that of one endpoint, not the envelope of all.
MIN_ANSWER_FIELDS: Final = 6
_DIGITS: Final = re.compile(r"[0-9]+")
_VERSION: Final = re.compile(r"[vV][0-9.]+")
_API_VERSION: Final = re.compile(r"[vV]?[0-9]+(?:\.[0-9]+)*")

_EXTENSION: Final = re.compile(r".*\.([A-Za-z][A-Za-z0-9]{1,5})\Z")
# Extensions that say in which format an API answers.
_FORMATS: Final = frozenset(
    (
        *("json", "jsonp", "jsonl", "xml", "rss", "atom"),
        *("do", "action", "ashx", "asmx", "svc", "cgi", "php", "asp", "aspx", "jsp"),
    )
)  # fmt: skip

_Children = list[tuple[Key, Position]]


def is_file(key: Key) -> bool:
    """Whether a segment is a literal that names a file, as `report-7.pdf` and `{}.png` do."""
    match = _EXTENSION.match(key[1]) if key[0] == LITERAL else None
    return match is not None and match[1].lower() not in _FORMATS


def find_targets(values: Collection[Key]) -> dict[Key, Key]:
    """Where the values of a position go that do not go to VALUE: names with a format (`roads.json`) beside the same
    names without it are an endpoint of their own, `{}.json`."""
    patterns: dict[Key, list[Key]] = defaultdict(list)
    for key in values:
        match = _EXTENSION.match(key[1]) if key[0] == LITERAL and "{}" not in key[1] else None
        if match is not None and match[1].lower() in _FORMATS:
            patterns[LITERAL, f"{{}}.{match[1]}", 0].append(key)
    return {
        key: pattern
        for pattern, keys in patterns.items()
        if pattern not in values and sum((LITERAL, key[1].rpartition(".")[0], 0) in values for key in keys) >= MIN_STEMS
        for key in keys
    }


def find_values(position: Position, *, rare_calls: float, before: Key | None) -> list[Key]:
    """Named children of `position` that are values of one parameter, each once.

    `rare_calls` is a number of calls below which a literal of this service would be an odd endpoint; `before` is the
    segment that leads to the position.
    """
    words = [(key, child) for key, child in position.children.items() if key[0] == WORD and child.served]
    literals = [(key, child) for key, child in position.children.items() if key[0] == LITERAL and child.served]
    values: list[Key] = []
    if words:
        values = _find_words(position, words, before)
        if values:
            values += _find_joining(position, words, literals, values, 0.0 if before == VALUE else rare_calls)
    values += _find_numbers(position, literals)
    values += _find_numbered(position)
    values += _find_written(position, words + literals, before)
    values += _find_twins(words + literals)
    values += _find_files(literals, len(words))
    return list(dict.fromkeys(values))


@dataclass(frozen=True, slots=True, kw_only=True)
class _WordSet:
    """What the calls of a position's words say of them together."""

    is_open: bool  # There are more of them than were seen.
    is_thin: bool  # Few, but most met once or twice.
    is_beside: bool  # Values like those of the parameter beside them.


def _describe(words: _Children, shapes: Position | None, before: Key | None) -> _WordSet:
    calls = sum(child.calls for _, child in words)
    mean = calls / len(words)
    thin_share = sum(child.calls <= THIN_CALLS for _, child in words) / len(words)
    is_spread = mean < MAX_MEAN_CALLS or thin_share >= MIN_THIN_SHARE
    least = MIN_OPEN_WORDS_AFTER_VALUE if before == VALUE else MIN_OPEN_WORDS
    is_version = _is_version(before)
    return _WordSet(
        is_open=len(words) >= least and is_spread and not is_version,
        is_thin=len(words) >= MIN_THIN_WORDS and thin_share >= MOSTLY_THIN_SHARE and before != VALUE and not is_version,
        is_beside=shapes is not None and (is_spread or calls <= MAX_BESIDE_SHARE * shapes.calls),
    )


def _is_version(key: Key | None) -> bool:
    """Whether a segment is the version of an API: the names of its resources follow, however few call each."""
    return key is not None and key[0] == LITERAL and _API_VERSION.fullmatch(key[1]) is not None


def _find_words(position: Position, words: _Children, before: Key | None) -> list[Key]:
    """Words that are values; empty where they are names."""
    word_set = _describe(words, position.children.get(VALUE), before)
    least = MIN_ALIKE_WORDS_AFTER_VERSION if _is_version(before) else MIN_ALIKE_WORDS
    is_alike = len(words) >= least and _are_alike(words)
    if not (position.is_counted or word_set.is_open or word_set.is_thin or word_set.is_beside or is_alike):
        return []
    values = [key for key in position.children if key[0] == WORD]
    if position.is_counted or not (word_set.is_open or word_set.is_thin):
        values = [key for key in values if _shares(position, key)]
    strangers = _find_strangers([(key, position.children[key]) for key in (*values, VALUE) if key in position.children])
    return [key for key in values if key not in strangers]


def _find_joining(
    position: Position, words: _Children, literals: _Children, values: list[Key], rare_calls: float
) -> list[Key]:
    """API words that are values of the same set as the words `values`."""
    union = Position()
    for key in (*values, VALUE):
        if key in position.children:
            union.absorb_copy(position.children[key])
    below = union.find_forms()
    counts = sorted(child.calls for _, child in words)
    usual = 2.0 * counts[len(counts) * 9 // 10]
    limit = max(usual, counts[-1], rare_calls) if len(counts) >= MIN_POPULAR_WORDS else max(usual, rare_calls)
    named: list[Key] = []
    bare: list[Key] = []
    for key, child in literals:
        if "{}" not in key[1] and key[1][:1].isalnum() and _joins(child, union, below, limit):
            (named if child.has_names() else bare).append(key)
    joining = named if len(values) >= MIN_THIN_WORDS else []
    count = len(values) + len(joining)
    if count >= MIN_OPEN_WORDS and len(bare) <= MAX_LITERAL_SHARE * count:
        return joining + bare
    if count >= MIN_THIN_WORDS:
        return joining + [key for key in bare if position.children[key].calls <= rare_calls]
    return joining


def _find_numbers(position: Position, literals: _Children) -> list[Key]:
    """Whole numbers that were taken for versions, and short codes, beside a parameter that has the same below it."""
    shapes = position.children.get(VALUE)
    if shapes is None:
        return []
    below = shapes.find_forms()
    return [
        key
        for key, child in literals
        if (
            key[1].isdigit()
            or (len(key[1]) <= CODE_CHARACTERS_MAX and _DIGITS.search(key[1]) and not _VERSION.fullmatch(key[1]))
        )
        and len(child.find_forms() & below) * 2 >= len(child.find_forms())
    ]


def _find_numbered(position: Position) -> list[Key]:
    """Siblings that differ in a number only (`user-0` .. `user-7`, `run-1.log`), and short codes (`b4`, `e9`), however
    they were answered."""
    groups: dict[str, list[Key]] = defaultdict(list)
    for key in position.children:
        text = key[1]
        if key[0] == LITERAL and "{}" not in text and _DIGITS.search(text) and not _VERSION.fullmatch(text):
            groups["" if len(text) <= CODE_CHARACTERS_MAX else _DIGITS.sub("{}", text)].append(key)
    values: list[Key] = []
    for group in groups.values():
        is_named = all(is_file(key) for key in group) or all(_is_written(position.children[key]) for key in group)
        values += group if len(group) >= (MIN_NUMBERED_NAMES if is_named else MIN_NUMBERED) else []
    return values


def _find_written(position: Position, named: _Children, before: Key | None) -> list[Key]:
    """Words that clients make, change or delete by their name, in the same way: they chose the names.

    What is below a parameter may be a part of it that is replaced or deleted as a whole. Elsewhere they are values if
    they are nearly all that is there, and have the same literals below them or are deleted one by one.
    """
    written = [(key, child) for key, child in named if "{}" not in key[1] and _is_written(child)]
    bare = [(key, child) for key, child in written if not child.children]
    shapes = position.children.get(VALUE)
    if shapes is not None:
        methods = shapes.list_served_methods()
        inside = [key for key, child in bare if child.list_served_methods() <= methods]
        same = [key for key, child in bare if len(methods) >= MIN_METHODS and child.list_served_methods() == methods]
        return inside if len(inside) >= MIN_WRITTEN else same
    least = ONLY_SHARE * sum(key[1][:1].isalnum() or key[0] == WORD for key, _ in named)
    alike = _find_alike([(key, child) for key, child in written if child.has_names()], Position.find_calls)
    if len(alike) >= max(MIN_WRITTEN_ALIKE, least):
        return alike
    is_deleted = any("DELETE" in child.list_served_methods() for _, child in bare)
    is_collection = is_deleted and before != VALUE and bool(position.list_served_methods())
    return [key for key, _ in bare] if is_collection and len(bare) >= max(MIN_WRITTEN, least) else []


def _is_written(child: Position) -> bool:
    return any(evidence.served_calls and evidence.route.method in _WRITES for evidence in child.routes)


def _find_twins(named: _Children) -> list[Key]:
    """Words with the same answers below each of them, or the same answer with many fields: names of tables, projects,
    labels. Resources of an API may have the same paths below them, but their answers differ."""
    named = [(key, child) for key, child in named if "{}" not in key[1]]
    above = [(key, child) for key, child in named if child.has_names()]
    alike = set(_find_alike(above, Position.find_calls))
    twins = _select_agreeing([(key, child) for key, child in above if key in alike])
    forms = set[str]().union(*(child.find_forms() for _, child in above))
    is_all = len(twins) == len(named)
    least = MIN_TWINS if is_all or len(forms) >= MANY_TWIN_FORMS else MIN_ALIKE_WORDS
    values = twins if len(twins) >= least and (is_all or len(forms) >= MIN_TWIN_FORMS) else []
    answers: dict[str, list[Key]] = defaultdict(list)
    for key, child in named:
        if not child.children:
            for answer in child.list_rich_answers():
                answers[answer].append(key)
    values += [key for keys in answers.values() if len(keys) >= MIN_ALIKE_WORDS for key in keys]
    return values or _find_same(named)


def _find_same(named: _Children) -> list[Key]:
    """All names of a position where there are many, none has anything below it, and all have the same methods, at least
    two of them, with the same answers. Pages for people may be different forms."""
    if len(named) < MIN_SAME or any(child.children for _, child in named):
        return []
    answers = [child.find_answers() for _, child in named]
    methods = named[0][1].list_served_methods()
    is_same = all(child.list_served_methods() == methods for _, child in named) and all(
        one == answers[0] for one in answers
    )
    is_page = any(answer.startswith("text/html") for answer in answers[0].values())
    is_known = len(answers[0]) == len(methods) >= MIN_SAME_METHODS
    return [key for key, _ in named] if is_same and is_known and not is_page else []


def _select_agreeing(children: _Children) -> list[Key]:
    """Those that hardly anywhere answer otherwise than most others; none where the answers of too few were read."""
    answers = {key: child.find_answers() for key, child in children}
    if sum(map(bool, answers.values())) < MIN_TWINS:
        return []
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for own in answers.values():
        for call, answer in own.items():
            counts[call][answer] += 1
    usual = {call: counter.most_common(1)[0][0] for call, counter in counts.items()}
    agreeing = {key: sum(usual[call] == answer for call, answer in own.items()) for key, own in answers.items()}
    return [key for key, count in agreeing.items() if count >= MIN_AGREEING_SHARE * len(answers[key])]


def _find_alike(children: _Children, find_parts: Callable[[Position], set[str]]) -> list[Key]:
    """Those that have nearly all that most of them have, and hardly anything that no other has."""
    parts = {key: find_parts(child) for key, child in children}
    counts = Counter(part for own in parts.values() for part in own)
    common = {part for part, count in counts.items() if count * 2 > len(children)}
    shared = {part for part, count in counts.items() if count >= max(2, len(children) // 3)}
    return [
        key
        for key, own in parts.items()
        if own
        and len(own & common) >= MIN_ALIKE_SHARE * len(common)
        and len(own & shared) >= MIN_ALIKE_SHARE * len(own)
    ]


def _find_files(literals: _Children, word_count: int) -> list[Key]:
    """Names of files of many kinds, `{}.pdf`, `{}.png`, with all that end like them and have nothing below; and of one
    kind, where clients write them and nothing else is there: they chose the whole name."""
    patterns = [(key, child) for key, child in literals if key[1].startswith("{}.")]
    extensions = {key[1].rpartition(".")[2] for key, _ in patterns}
    if len(extensions) < MIN_EXTENSIONS:
        is_only = len(patterns) == len(literals) and not word_count
        return [key for key, child in patterns if is_only and is_file(key) and "PUT" in child.list_served_methods()]
    named = [
        key
        for key, child in literals
        if "{}" not in key[1] and "." in key[1] and key[1].rpartition(".")[2] in extensions and not child.children
    ]
    return [key for key, _ in patterns] + named


def _shares(position: Position, key: Key) -> bool:
    """Whether a word has most of what is below it in common with its sibling words and parameters."""
    others: set[str] = set()
    for other, child in position.children.items():
        if other != key and other[0] != LITERAL:
            others |= child.find_forms()
    own = position.children[key].find_forms()
    return len(own & others) * 2 >= len(own)


def _find_strangers(children: _Children) -> set[Key]:
    """Those that have an API of their own below them: /apis/batch and /apis/apps are no values of one parameter."""
    names = {key: child.find_names() for key, child in children}
    counts: dict[str, int] = defaultdict(int)
    for own in names.values():
        for name in own:
            counts[name] += 1
    return {
        key
        for key, own in names.items()
        if len(own) >= MIN_OWN_NAMES and sum(counts[name] > 1 for name in own) <= MAX_SHARED_NAMES * len(own)
    }


def _joins(child: Position, union: Position, below: set[str], limit: float) -> bool:
    """Whether an API word is one more value of the set `union`: it has named things below it in common with the set, or
    it is called no more than the set's words are and has nothing that they lack."""
    own = child.find_forms()
    named = [name for name in own if name.startswith("/") and name != "/*"]
    if _answers_alike(child, union):
        return True
    if named:
        return sum(name in below for name in named) * 3 >= len(named) * 2 and len(own & below) * 3 >= len(own) * 2
    return child.calls <= limit and child.is_inside(union)


def _answers_alike(child: Position, union: Position) -> bool:
    """Whether a word has the same as the set of values, at several places, and answers alike."""
    answers = child.find_answers()
    return len(answers) >= MIN_ALIKE_ANSWERS and answers.items() <= union.find_answers().items()


def _are_alike(words: _Children) -> bool:
    """Whether words of one position have the same below them, and have more than one thing there: values of one
    parameter do."""
    forms = [child.find_forms() for _, child in words]
    counts: dict[str, int] = defaultdict(int)
    for form in forms:
        for name in form:
            counts[name] += 1
    common = {name for name, count in counts.items() if count * 3 >= len(forms)}
    literals = [name for name in common if name.startswith("/") and name != "/*"]
    total = sum(counts.values())
    return bool(literals) and sum(counts[name] for name in common) >= MIN_ALIKE_SHARE * total
