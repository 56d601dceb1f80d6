"""Pages lead somewhere: every relative link of a Markdown file names a file that exists, and its anchor a heading
there, as GitHub makes anchors of headings."""

import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"^(```|~~~).*?^\1[^\n]*$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
_FENCED = re.compile(r"^(```|~~~).*?^\1[^\n]*$", re.MULTILINE | re.DOTALL)


def list_pages() -> list[Path]:
    """The Markdown files that are kept; those of a checkout without git, whatever lies there."""
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        return [ROOT / name for name in listed.stdout.splitlines()]
    return [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("images/*.md")]


def make_anchor(heading: str) -> str:
    """What a link to a heading ends with."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")


@cache
def list_anchors(page: Path) -> frozenset[str]:
    """Of all headings; one that comes again has a number."""
    found, anchors = Counter[str](), set[str]()
    for heading in _HEADING.findall(_FENCED.sub("", page.read_text())):
        anchor = make_anchor(heading)
        anchors.add(f"{anchor}-{found[anchor]}" if found[anchor] else anchor)
        found[anchor] += 1
    return frozenset(anchors)


def find_broken(page: Path) -> Iterator[str]:
    """Links of a page that lead nowhere, with the reason."""
    for target in _LINK.findall(_CODE.sub("", page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists():
            yield f"{target}: there is no such file"
        elif anchor and anchor not in list_anchors(file):
            yield f"{target}: {file.name} has no such heading"


@pytest.mark.parametrize("page", list_pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert not list(find_broken(page))


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One `two`, three\n\n[a](#one-two-three) [b](#four) [c](gone.md) `[d](e.md)` [f](https://g)\n")
    assert list(find_broken(page)) == [
        "#four: page.md has no such heading",
        "gone.md: there is no such file",
    ]
