"""Finds words in added text for which docs/internals/development.md ("How we write") has a better one.

Reads Markdown, HTML templates and YAML, and in Python files comments, strings of several words (docstrings, messages)
and names of tests. Code in backticks and code blocks are not read. Prints a line for each word with what to write
instead, and exits with 1 if there is any.
"""

import io
import re
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts.testing.selection import ROOT, read_landed, run_git

LIST: Final = "scripts/words.py"
# The list and its test hold the words themselves; recorded and generated files are not ours to word.
EXCLUDED: Final = (LIST, "tests/scripts/test_words.py", "tests/data/", "proto/gen/")
SUFFIXES: Final = (".md", ".py", ".html", ".yaml")

# Only words that have no plain meaning we need elsewhere: a check that is often wrong is switched off.
WORDS: Final = tuple(
    (re.compile(rf"(?i)\b(?:{pattern})\b"), instead)
    for pattern, instead in (
        ("tell|tells|telling|told|untold", "report, emit, export, send, log, notify; show; distinguish (tell apart)"),
        ("foretold|foretells?", "predicted"),
        ("teach|teaches|teaching|taught|lessons?", "install in the kernel route cache, learn"),
        ("(?:come|comes|coming|came) up(?! with)", "is copied to user space; starts; appears"),
        ("(?:stay|stays|stayed|staying) down", "is not copied to user space"),
        ("(?:send|sends|sent) up(?! to)", "copy to user space"),
        ("judge|judges|judged|judging|judgements?|judgments?", "describe, classify, evaluate, assess"),
        ("(?:leave|leaves|leaving|left) out", "exclude, filter, skip"),
        ("(?:pass|passes|passing|passed) over", "skip, exclude"),
        ("heirs?|testators?|bequeaths?|bequeathed|estates?", "successor, hand over, hand-over server, state"),
        ("tombstones?|gravestones?|graveyards?", "retired endpoint"),
        ("crowds?", "cohort, group of consumers"),
        ("rosters?", "cohort, list of known consumers"),
        ("thief|thieves", "attacker"),
        ("sieves?", "filter, suppression"),
        ("(?<!help )(?<!service )desks?", "receiver, alert lifecycle, store"),
        ("what is (?:ordinary|usual)|(?:ordinary|usual) for", "the baseline, the expected range"),
        ("four eyes", "second approval"),
        ("(?:give|gives|giving|gave|given) way", "yield; be replaced or evicted"),
        ("head lines?", "request line, header field"),
        ("calls (?:are|come|get) later|later calls are", "adds latency"),
        ("to no sensor|times no sensor", "relative to running without a sensor"),
        ("of before", "previous, earlier"),
        ("of today|today's", "current"),
        # `None` is Python's, and `there is none` is plain.
        ("(?<!there )(?:is|are|was|were) (?-i:none)", "is not a .., is not one"),
        ("lost by room", "dropped"),
        ("as so many", "as many as"),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One word in one line."""

    path: str
    line: int
    word: str
    instead: str

    def __str__(self) -> str:
        return f'{self.path}:{self.line}: "{self.word}": write {self.instead}'


def main() -> int:
    """Checks the checkout."""
    base = find_base()
    if base is None:
        print("words: there is no commit to compare with, so no text was checked")
        return 0
    hits = find_hits(base)
    for hit in hits:
        print(hit)
    print(f"words: {len(hits) or 'none'} to replace in text added since {base[:12]} (docs/internals/development.md)")
    return 1 if hits else 0


def find_base(root: Path = ROOT) -> str | None:
    """The commit that landed last, or the one that added the list if that is later; None where git knows neither."""
    # Text that is older than the list is not checked: it is rewritten page by page. So the check holds from the commit
    # that added this file. It is found in the history and not named here, because a rebase gives it another hash.
    added = (run_git(root, "log", "-1", "--diff-filter=A", "--format=%H", "--", LIST) or "").strip()
    landed = read_landed(root)
    is_known = bool(landed) and run_git(root, "cat-file", "-e", f"{landed}^{{commit}}") is not None
    if is_known and (not added or run_git(root, "merge-base", "--is-ancestor", added, landed) is not None):
        return landed
    return added or None


def find_hits(base: str, root: Path = ROOT) -> list[Hit]:
    """Words in lines that no file of the commit `base` holds, uncommitted ones and those of new files included."""
    hits: list[tuple[str, Hit]] = []
    for path, numbers in list_added_lines(base, root).items():
        try:
            source = (root / path).read_text()
        except (OSError, UnicodeDecodeError):
            continue
        lines = source.split("\n")
        for number, text in extract_text(path, source).items():
            if number in numbers:
                line = normalise(lines[number - 1])
                hits += [(line, Hit(path=path, line=number, word=word, instead=i)) for word, i in find_words(text)]
    known = read_known_lines(base, root) if hits else frozenset[str]()
    return [hit for line, hit in hits if line not in known]


def find_words(text: str) -> Iterator[tuple[str, str]]:
    """Words of the list in a text, each with what to write instead."""
    return ((match[0], instead) for pattern, instead in WORDS for match in pattern.finditer(text))


def list_added_lines(base: str, root: Path) -> dict[str, range | set[int]]:
    """Numbers of the lines of each file that are not in its version of `base`; a new file has all of its lines."""
    globs = [f"*{suffix}" for suffix in SUFFIXES]
    added: dict[str, range | set[int]] = {}
    new = run_git(root, "-c", "core.quotepath=off", "ls-files", "--others", "--exclude-standard", "--", *globs) or ""
    for path in new.splitlines():
        added[path] = range(1, sys.maxsize)
    diff = ("diff", "--unified=0", "--no-color", "--no-ext-diff", "--no-prefix", "--find-renames", "--find-copies")
    numbers = set[int]()
    for line in (run_git(root, "-c", "core.quotepath=off", *diff, base, "--", *globs) or "").splitlines():
        if line.startswith("+++ "):
            numbers = set()
            added[line[4:].rstrip("\t")] = numbers
        elif match := re.match(r"@@ -\S+ \+(\d+)(?:,(\d+))? @@", line):
            start, count = int(match[1]), int(match[2] or 1)
            numbers.update(range(start, start + count))
    return {path: lines for path, lines in sorted(added.items()) if not path.startswith(EXCLUDED)}


def read_known_lines(base: str, root: Path) -> frozenset[str]:
    """All lines of the commit's text files. A line that moved, between files too, is not new."""
    globs = [f"*{suffix}" for suffix in SUFFIXES]
    return frozenset(map(normalise, (run_git(root, "grep", "-hI", "-e", "", base, "--", *globs) or "").splitlines()))


def normalise(line: str) -> str:
    """A line without its indentation, comment sign and quotes."""
    return line.strip(" \t#\"'")


def extract_text(path: str, source: str) -> dict[int, str]:
    """What a person reads in each line of a file, by line number."""
    if path.endswith(".py"):
        texts = extract_python(source)
    elif path.endswith(".md"):
        texts = extract_markdown(source)
    elif path.endswith(".html"):
        texts = extract_html(source)
    else:
        texts = iter(enumerate(source.split("\n"), 1))
    joined = dict[int, str]()
    for number, text in texts:
        plain = re.sub(r"`[^`]*`", "", text)
        joined[number] = f"{joined[number]} {plain}" if number in joined else plain
    return joined


def extract_python(source: str) -> Iterator[tuple[int, str]]:
    """Comments, strings that hold a space, and names of tests; nothing of a file that is no Python."""
    strings = {tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    except (tokenize.TokenError, SyntaxError):
        return
    for token in tokens:
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
        elif token.type in strings and re.search(r"\s", token.string):
            for offset, line in enumerate(token.string.splitlines()):
                yield token.start[0] + offset, re.sub(r"\{[^{}]*\}", "", line)
        elif token.type == tokenize.NAME and token.string.startswith("test_"):
            yield token.start[0], token.string.replace("_", " ")


def extract_markdown(source: str) -> Iterator[tuple[int, str]]:
    """Lines outside of code blocks, without the targets of links."""
    fence = ""
    for number, line in enumerate(source.split("\n"), 1):
        mark = re.match(r" *(```|~~~)", line)
        if mark and fence in ("", mark[1]):
            fence = "" if fence else mark[1]
        elif not fence and not line.startswith("    "):
            yield number, re.sub(r"\]\([^)]*\)", "]", line)


def extract_html(source: str) -> Iterator[tuple[int, str]]:
    """Lines without expressions of the template and without attributes that nobody reads."""
    attribute = re.compile(r'\b(?!(?:title|alt|placeholder|aria-label|value)=)[\w:-]+="[^"]*"')
    for number, line in enumerate(source.split("\n"), 1):
        yield number, attribute.sub("", re.sub(r"\{[{%].*?[%}]\}", "", line))


if __name__ == "__main__":
    sys.exit(main())
