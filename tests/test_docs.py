"""Pages lead somewhere: every relative link of a Markdown file names a file that exists, and its anchor a heading
there, as GitHub makes anchors of headings. So do files and modules in code spans, and paths in comments of the product.
A name in a code span right behind a file, as in `sensor/core/keyed.py`, `KeyedHash`, is defined in that file.

The README stays short, and commands of measured figures exist."""

import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

PICTURE_BYTES_MAX = 150_000
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"^(```|~~~).*?^\1[^\n]*$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
_FENCED = re.compile(r"^(```|~~~).*?^\1[^\n]*$", re.MULTILINE | re.DOTALL)
_PATH = re.compile(r"(?<![\w./~$-])(?:sensor|collector|common|scripts|tests|proto|images|docs|deploy/helm)/[\w./*-]*")
_MODULE = re.compile(
    r"python -m ((?:sensor|collector|common|scripts|tests)[\w.]*)|(?<![\w./-])((?:sensor|collector)(?:\.\w+){2,})"
)
_FILE = re.compile(r"`([\w./-]+\.(?:py|c|h))`")
_DEFINED = re.compile(r"`([\w.-]+/[\w./-]+\.(?:py|c|h))`, `(\w+(?:\.\w+)*)`")
# Second part of a dotted name that is a value of the chart, such as `sensor.settings.cluster`.
_VALUES = {"settings", "replicas", "seccompProfile", "appArmorProfile", "seLinuxOptions", "className"}


def list_pages() -> list[Path]:
    """The Markdown files that are kept; those of a checkout without git, whatever lies there."""
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        return [ROOT / name for name in listed.stdout.splitlines()]
    return [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("images/*.md")]


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


def find_missing_paths(text: str) -> list[str]:
    """Paths of this repository in a text that do not exist. `*` stands for anything, and so does a last part in
    capitals, as in `tests/fuzz/corpus/NAME`."""
    named = {path.rstrip(".,/") for path in _PATH.findall(text)}
    return sorted(path for path in named if not exists(re.sub(r"/[A-Z_]+$", "", path)))


def exists(path: str) -> bool:
    """Whether there is such a file or folder."""
    return any(ROOT.glob(path)) if "*" in path else (ROOT / path).exists()


@cache
def list_tails() -> frozenset[str]:
    """All files of the repository by the ends of their paths: `a/b/c.py`, `b/c.py` and `c.py`."""
    tops = ("sensor", "collector", "common", "scripts", "tests", "images")
    files = [path.relative_to(ROOT).parts for top in tops for path in (ROOT / top).rglob("*.*")]
    return frozenset("/".join(parts[start:]) for parts in files for start in range(len(parts)))


def find_missing_files(text: str) -> list[str]:
    """Files in code spans, `burst.py` or `volume/burst.py`, that are nowhere."""
    return sorted({name for name in _FILE.findall(text) if name not in list_tails()})


def find_missing_modules(text: str) -> list[str]:
    """Dotted names of modules, or of what a module defines, that do not exist."""
    named = {run or dotted for run, dotted in _MODULE.findall(text)}
    return sorted(name for name in named if not _VALUES & set(name.split(".")) and not is_there(name.split(".")))


def is_there(parts: list[str]) -> bool:
    """Whether these are the parts of a module's name, or of a name in a module."""
    path = ROOT.joinpath(*parts)
    module = path.parent.with_suffix(".py")
    return path.is_dir() or path.with_suffix(".py").exists() or (module.exists() and defines(module, parts[-1]))


def defines(file: Path, name: str) -> bool:
    """Whether a file of Python or C defines a function, class or constant; of `Class.method` the method counts."""
    last = re.escape(name.rpartition(".")[2])
    pattern = rf"^\s*(?:async )?(?:def|class) {last}\b|^{last}\b.*=|^(?:static |int |struct )[^;=]*\b{last}(?:\(| \{{)"
    return re.search(pattern, file.read_text(), re.MULTILINE) is not None


def find_undefined(text: str) -> list[str]:
    """Names behind a file that the file does not define."""
    pairs = [(ROOT / path, name) for path, name in _DEFINED.findall(text)]
    return [f"{file.name}: {name}" for file, name in pairs if not file.exists() or not defines(file, name)]


def list_sources() -> list[Path]:
    """Files of the product whose comments may name others."""
    return [
        path
        for top in ("sensor", "collector", "common", "deploy/helm")
        for path in sorted((ROOT / top).rglob("*"))
        if path.suffix in (".py", ".c", ".h", ".yaml", ".tpl", ".html")
    ]


# The changelog names files as they were.
@pytest.mark.parametrize(
    "page", [page for page in list_pages() if page.name != "CHANGELOG.md"], ids=lambda page: str(page.relative_to(ROOT))
)
def test_files_and_modules_in_code_spans_exist(page: Path) -> None:
    text = page.read_text()
    spans = "\n".join(match.group() for match in _CODE.finditer(text))
    assert not [
        *find_missing_paths(spans),
        *find_missing_modules(spans),
        *find_missing_files(spans),
        *find_undefined(text),
    ]


def test_paths_in_comments_exist() -> None:
    missing = {str(path.relative_to(ROOT)): find_missing_paths(path.read_text()) for path in list_sources()}
    assert not {path: names for path, names in missing.items() if names}


def test_a_missing_path_module_or_name_is_found() -> None:
    text = "`scripts/gone --now`, `sensor/core/*.py`, `tests/fuzz/corpus/NAME`, `python -m sensor.gone`"
    assert find_missing_paths(text) == ["scripts/gone"]
    assert find_missing_files("`core/keyed.py`, `keyed.py`, `core/gone.py`") == ["core/gone.py"]
    assert find_missing_modules(f"{text} `sensor.core.health`, `sensor.core.gone`") == [
        "sensor.core.gone",
        "sensor.gone",
    ]
    assert find_undefined("`sensor/core/keyed.py`, `KeyedHash.compute`; `sensor/core/keyed.py`, `gone`") == [
        "keyed.py: gone"
    ]


@pytest.mark.parametrize("page", list_pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert not list(find_broken(page))


def test_the_readme_is_short() -> None:
    text = (ROOT / "README.md").read_bytes()
    assert len(text) <= 6_000
    assert len(text.split()) <= 900


def test_pictures_are_small_and_shown() -> None:
    shown = "".join(page.read_text() for page in list_pages())
    for picture in sorted((ROOT / "docs" / "images").iterdir()):
        assert picture.stat().st_size <= PICTURE_BYTES_MAX, picture.name
        assert f"images/{picture.name})" in shown, f"no page shows {picture.name}; scripts/screenshots takes it"


def test_commands_of_measured_figures_exist() -> None:
    text = (ROOT / "docs" / "reference" / "measured.md").read_text()
    paths = [f"scripts/bench_cases/{name}.py" for name in re.findall(r"scripts/bench (\w+)", text)]
    paths += re.findall(r"tests/[\w/.]+", text)
    paths += [f"tests/accuracy/{task}.py" for task in re.findall(r"tests\.accuracy ([a-z]\w*)", text)]
    assert len(paths) > 20
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_terms_of_the_glossary_have_one_definition_are_sorted_and_are_used() -> None:
    glossary = ROOT / "docs/reference/glossary.md"
    terms = re.findall(r"^### (.+)$", glossary.read_text(), re.MULTILINE)
    others = " ".join(page.read_text() for page in list_pages() if page != glossary and "CHANGELOG" not in page.name)
    used = " ".join(others.split()).lower()
    assert len(terms) > 40 and len(set(map(str.lower, terms))) == len(terms)
    assert terms == sorted(terms, key=str.lower)
    words = {term: term.lower().removesuffix(" endpoint") for term in terms}
    assert [term for term, word in words.items() if word not in used] == [], "no page uses them: take them out"


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One `two`, three\n\n[a](#one-two-three) [b](#four) [c](gone.md) `[d](e.md)` [f](https://g)\n")
    assert list(find_broken(page)) == [
        "#four: page.md has no such heading",
        "gone.md: there is no such file",
    ]


def test_each_claim_of_the_threat_model_names_a_test_that_exists() -> None:
    text = (ROOT / "docs/use/security.md").read_text()
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    defined = set(re.findall(r"def (test_\w+)", tests))
    rows = [line for line in text[text.index("## Threat model") :].splitlines() if re.match(r"\| [A-Z]", line)]
    claims = {row: re.findall(r"`(test_\w+)`", row) for row in rows[1:]}
    assert len(claims) > 15
    assert not [row for row, named in claims.items() if not named or not defined.issuperset(named)]
