"""What the site needs beyond mkdocs.yml: mkdocs calls these functions.

Pages are written for GitHub, and the collector's `/docs` shows them too. So the navigation is made of docs/README.md,
pages at the top of the repository become pages of the site, links to files that are not on the site are excluded, and
Markdown and anchors follow GitHub's rules.
"""

import posixpath
import re
from pathlib import Path
from typing import Any, Final

from markdown import Extension, Markdown
from markdown.blockprocessors import build_block_parser
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from collector.ui.documentation.markdown import make_anchor

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = "docs"
# Pages at the top of the repository, and what they are on the site.
TOP_PAGES: Final = {"CHANGELOG.md": "changelog.md", "UPGRADING.md": "upgrading.md"}
# Files of the site that are not documentation.
_FILES: Final = {
    "apidae.svg": ROOT / "collector/ui/static/apidae.svg",
    "iframe-worker.js": ROOT / "scripts/site/iframe-worker.js",
    "site.css": ROOT / "scripts/site/site.css",
}
_INDENT: Final = 2  # Of what belongs to an item of a list; the library's own is 4.
_LINK: Final = re.compile(
    r"(?P<code>^(?:```|~~~).*?^(?:```|~~~)[^\n]*$|`[^`\n]*`(?!\]))"
    r"|(?P<text>!?\[(?:[^\[\]]|\[[^\]]*\])*\])\((?P<target>[^)\s]+)\)",
    re.MULTILINE | re.DOTALL,
)


class GithubLists(Extension):
    """Lists as GitHub reads them."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802
        """First of all extensions: it makes the parser anew, before others add to it."""
        md.tab_length = _INDENT
        md.parser = build_block_parser(md)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Navigation, anchors and lists."""
    config.nav = build_navigation(Path(config.docs_dir))
    config.mdx_configs.setdefault("toc", {})["slugify"] = lambda text, separator: make_anchor(text)
    config.markdown_extensions.insert(0, GithubLists())  # type: ignore[arg-type]
    return config


def build_navigation(docs: Path) -> list[Any]:
    """Each section of the README with its links; a list of kinds or rules has all pages of its folder."""
    text = (docs / "README.md").read_text()
    navigation: list[Any] = [{"Home": "README.md"}]
    for title, section in re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", text, re.M | re.S):
        entries: list[Any] = []
        for name, target in re.findall(r"\[([^\]]+)\]\(([^)#]+)\)", section):
            site_path = TOP_PAGES.get(target.removeprefix("../"), target)
            folder = posixpath.dirname(site_path)
            if posixpath.basename(site_path) == "README.md":
                others = sorted((docs / folder).glob("[a-z]*.md"))
                entries.append({name.capitalize(): [site_path, *(f"{folder}/{path.name}" for path in others)]})
            else:
                entries.append({name[0].upper() + name[1:]: site_path})
        navigation.append({title: entries})
    return navigation


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds what lies elsewhere in the repository."""
    for name, source in _FILES.items():
        files.append(File.generated(config, name, abs_src_path=str(source)))
    for name, site_path in TOP_PAGES.items():
        files.append(File.generated(config, site_path, content=(ROOT / name).read_text()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """With links as they are on the site."""
    own = page.file.src_uri
    sources = {site_path: name for name, site_path in TOP_PAGES.items()}
    source = sources.get(own, f"{DOCS}/{own}")

    def resolve(match: re.Match[str]) -> str:
        target = match["target"]
        if match["code"] or re.match(r"[a-z]+:|#", target):
            return match[0]
        file, _, anchor = target.partition("#")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), file))
        site_path = TOP_PAGES.get(path) or path.removeprefix(f"{DOCS}/")
        if path not in TOP_PAGES and (not path.startswith(f"{DOCS}/") or files.get_file_from_path(site_path) is None):
            exists = (ROOT / path).exists()
            return match["text"].strip("[]") if exists else match[0]  # What does not exist fails the build.
        found = posixpath.relpath(site_path, posixpath.dirname(own) or ".")
        return f"{match['text']}({found}{f'#{anchor}' if anchor else ''})"

    return _LINK.sub(resolve, markdown)
