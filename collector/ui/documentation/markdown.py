"""Renders the documentation's Markdown: headings have GitHub's anchors, and links between pages lead to `/docs`.

A page of the documentation is one file of `pages`; its name is its path there without `.md`, and of a README the
folder. Links to files that are not shipped, and pictures, are dropped: nothing is fetched from elsewhere.
"""

import posixpath
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count, pairwise
from pathlib import Path
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

PAGES: Final = Path(__file__).parent / "pages"
PATH: Final = "/docs"
_INDEX: Final = "README"
_TABLE: Final = '<div class="scroll" tabindex="0" role="region" aria-label="Table {}"><table class="plain">'
_TITLE: Final = re.compile(r"^# (.+)$", re.MULTILINE)
_RENDERED_MAX: Final = 32  # Pages that are kept as HTML; the largest has 400 KB.


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedPage:
    """`html` has everything below the title. `folder`: name and title of the list that the page is in; empty where it
    is in none."""

    name: str
    title: str
    html: str
    folder: tuple[str, str] = ("", "")


def list_names() -> frozenset[str]:
    """Names of all pages; that of the first is empty."""
    return frozenset(_list_files())


def find_page(name: str) -> RenderedPage | None:
    """The page of this name; None where there is none."""
    return _render(name) if name in _list_files() else None


def make_anchor(heading: str) -> str:
    """What a link to a heading ends with, as GitHub makes it of the heading's text."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@lru_cache(maxsize=1)
def _list_files() -> dict[str, str]:
    """The file below `PAGES` of each name."""
    files = [path.relative_to(PAGES).as_posix() for path in PAGES.rglob("*.md")]
    return {_name(file): file for file in files}


def _name(file: str) -> str:
    return file.removesuffix(".md").removesuffix(_INDEX).rstrip("/")


@lru_cache(maxsize=_RENDERED_MAX)
def _render(name: str) -> RenderedPage:
    file = _list_files()[name]
    text = (PAGES / file).read_text()
    title = _TITLE.search(text)
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(_TITLE.sub("", text, count=1))
    _set_anchors(tokens)
    for token in tokens:
        if token.type == "fence":
            token.attrSet("class", "shell")
        if token.children:
            token.children = _resolve_links(token.children, posixpath.dirname(file))
    html = parser.renderer.render(tokens, parser.options, {})
    # A wide table or line scrolls in a box of its own, which the keyboard reaches.
    numbers = count(1)
    html = re.sub("<table>", lambda _: _TABLE.format(next(numbers)), html).replace("</table>", "</table></div>")
    html = html.replace("<pre>", '<pre tabindex="0">')
    folder = name.rpartition("/")[0]
    return RenderedPage(
        name=name,
        title=title[1].replace("`", "") if title else name,
        html=html,
        folder=(folder, _render(folder).title) if folder in _list_files() and folder else ("", ""),
    )


def _set_anchors(tokens: Sequence[Token]) -> None:
    """Ids of headings; one that comes again has a number."""
    found = Counter[str]()
    for token, inline in pairwise(tokens):
        if token.type == "heading_open":
            words = (one.content for one in inline.children or () if one.type in ("text", "code_inline"))
            anchor = make_anchor("".join(words))
            token.attrSet("id", f"{anchor}-{found[anchor]}" if found[anchor] else anchor)
            found[anchor] += 1


def _resolve_links(tokens: Sequence[Token], directory: str) -> list[Token]:
    """The same with links to pages as the console has them, without links to other files and without pictures."""
    kept, is_open = [], []
    for token in tokens:
        if token.type == "image":
            continue
        if token.type == "link_open":
            target = _find_target(str(token.attrGet("href") or ""), directory)
            is_open.append(bool(target))
            if not target:
                continue
            token.attrSet("href", target)
        elif token.type == "link_close" and not is_open.pop():
            continue
        kept.append(token)
    return kept


def _find_target(target: str, directory: str) -> str:
    """Where a link leads in the console; empty where the file is not shipped."""
    if re.match(r"[a-z]+:", target) or target.startswith("#"):
        return target
    file, _, anchor = target.partition("#")
    name = _name(posixpath.normpath(posixpath.join(directory, file)))
    if not file.endswith(".md") or name not in _list_files():
        return ""
    return f"{PATH}/{name}".rstrip("/") + (f"#{anchor}" if anchor else "")
