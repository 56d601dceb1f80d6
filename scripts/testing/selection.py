"""Which tests a change asks for beyond the gate: those of the packages that changed and of the ones that import them.

Reads the changes of the checkout against a commit, and the imports of product and tests as text. A package is a folder
of modules. A test belongs to the packages that its file imports, by way of modules of `tests` and `scripts` too, and to
those that its mark names, with all below them: `pytest.mark.full("sensor.capture")`.
"""

import ast
import subprocess
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
SIDES: Final = ("common", "sensor", "collector")
DOCS: Final = "docs"  # Named like a package, for the tests that run what pages say.
# Who changes one of these changes what all others are built or run with.
EVERYTHING: Final = ("proto/", "pyproject.toml", "requirements/", "scripts/setup", "tests/conftest.py")
# The chart and the images have tests and a build of their own.
IMAGE_PATHS: Final = ("images/", "deploy/", "scripts/containers/", "requirements/run.lock", "scripts/images")
KERNEL_SIDE: Final = "sensor.ebpf"
LANDED_FILE: Final = ".ci/landed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What runs in full. `reason` is one line for whoever reads the output."""

    files: frozenset[str]  # Test files, from the root of the checkout.
    has_images: bool
    has_kernels: bool
    has_fuzzing: bool
    reason: str


def select(base: str, *, root: Path = ROOT) -> Selection:
    """What the changes since the commit `base` ask for; all, where there is no such commit."""
    changed = list_changes(base, root)
    if changed is None:
        return select_all(root, f"there is no commit {base or 'to compare with'}: all packages count as changed")
    return select_of(changed, root=root, base=base)


def select_all(root: Path, reason: str) -> Selection:
    """Every test."""
    return Selection(
        files=frozenset(list_tests(root)), has_images=True, has_kernels=True, has_fuzzing=True, reason=reason
    )


def select_of(changed: Collection[str], *, root: Path = ROOT, base: str = "") -> Selection:
    """What changes of these files, named from the root of the checkout, ask for."""
    whole = [path for path in changed if path.startswith(EVERYTHING)]
    if whole:
        return select_all(root, f"{whole[0]} changed, on which everything depends: all packages count as changed")
    graph = read_graph(root)
    packages = {package for path in changed if (package := name_package(path, root)) is not None}
    importers = {package for package, imported in graph.packages.items() if packages & imported}
    asked = packages | importers
    modules = {
        name_module(path) for path in changed if path.startswith(("tests/", "scripts/")) and path.endswith(".py")
    }
    files = frozenset(
        path for path, test in graph.tests.items() if _is_within(asked, test.packages) or test.modules & modules
    )
    return Selection(
        files=files,
        has_images=any(path.startswith(IMAGE_PATHS) for path in changed),
        has_kernels=KERNEL_SIDE in packages,
        has_fuzzing=any(package.startswith("sensor") for package in packages),
        reason=f"{len(packages)} packages changed since {base[:12]}, {len(importers - packages)} more import them",
    )


def read_landed(root: Path = ROOT) -> str:
    """The commit that landed last, as `.ci/landed` names it; empty where it names none."""
    try:
        return (root / LANDED_FILE).read_text().strip()
    except OSError:
        return ""


def list_changes(base: str, root: Path) -> list[str] | None:
    """Files that differ from the commit, uncommitted and new ones included; None where git does not know it."""
    named = run_git(root, "rev-parse", "--verify", "--quiet", f"{base}^{{commit}}") if base else None
    if not named:
        return None
    differing = run_git(root, "diff", "--name-only", "--no-renames", base, "--")
    new = run_git(root, "ls-files", "--others", "--exclude-standard")
    return None if differing is None or new is None else sorted({*differing.splitlines(), *new.splitlines()})


def run_git(root: Path, *arguments: str) -> str | None:
    """What the command prints; None if it fails."""
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, errors="replace", check=False)
    return done.stdout if done.returncode == 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class TestFile:
    """What one test file stands on."""

    packages: frozenset[str]  # Of the product.
    modules: frozenset[str]  # Of tests and scripts, itself included.


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """Imports of the checkout."""

    packages: Mapping[str, frozenset[str]]  # Which packages a package imports.
    tests: Mapping[str, TestFile]  # By path.


def read_graph(root: Path = ROOT) -> Graph:
    """Reads all Python files of the product, the tests and the scripts; some two seconds."""
    packages: dict[str, set[str]] = {}
    for side in SIDES:
        for path in sorted((root / side).rglob("*.py")):
            package = name_package(path.relative_to(root).as_posix(), root)
            if package is not None:
                packages.setdefault(package, set()).update(_read(path, root).packages - {package})
    return Graph(
        packages={package: frozenset(imported) for package, imported in packages.items()},
        tests={path: _follow(name_module(path), root) for path in list_tests(root)},
    )


def list_tests(root: Path) -> list[str]:
    """All test files, from the root of the checkout."""
    return sorted(path.relative_to(root).as_posix() for path in (root / "tests").rglob("test_*.py"))


def name_package(path: str, root: Path = ROOT) -> str | None:
    """`sensor/capture/tls/elf.py` is of `sensor.capture.tls`, and so is what lies in folders without modules below it;
    a page is of `docs`. None for what is not of the product."""
    if path.startswith(f"{DOCS}/"):
        return DOCS
    folder = path.rpartition("/")[0]
    if path.split("/")[0] not in SIDES or not folder:
        return None
    while "/" in folder and not any((root / folder).glob("*.py")):
        folder = folder.rpartition("/")[0]
    return folder.replace("/", ".")


def _is_within(packages: Collection[str], named: Collection[str]) -> bool:
    """Whether one of the packages is one that is named, or below it."""
    return any(package == name or package.startswith(f"{name}.") for package in packages for name in named)


def name_module(path: str) -> str:
    """`tests/e2e/wire.py` is `tests.e2e.wire`, and a package is named as its folder."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@dataclass(frozen=True, slots=True)
class _Imports:
    packages: frozenset[str]
    support: frozenset[str]  # Modules of tests and scripts.


@cache
def _read(path: Path, root: Path) -> _Imports:
    """What a file imports, functions included, and what its marks name."""
    packages, support = set[str](), set[str]()
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        for target in _list_targets(node, root):
            side = target.partition(".")[0]
            if side in SIDES:
                packages.add(_name_folder(target, root))
            elif side in ("tests", "scripts"):
                support.add(target)
        packages.update(_list_marked(node))
    return _Imports(frozenset(packages), frozenset(support))


def _name_folder(module: str, root: Path) -> str:
    """The package that a module is of; a package is its own."""
    is_package = root.joinpath(*module.split(".")).is_dir()
    return module if is_package else module.rpartition(".")[0]


def _list_targets(node: ast.AST, root: Path) -> Iterable[str]:
    """Dotted modules that a statement imports: `from a import b` may name `a.b` or something in `a`."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        for alias in node.names:
            whole = root.joinpath(*node.module.split("."), alias.name)
            is_module = whole.is_dir() or whole.with_suffix(".py").exists()
            yield f"{node.module}.{alias.name}" if is_module else node.module


def _list_marked(node: ast.AST) -> Iterable[str]:
    """The packages in `pytest.mark.full("sensor.capture.tls", ..)`."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "full":
        yield from (argument.value for argument in node.args if isinstance(argument, ast.Constant))  # type: ignore[misc]


def _follow(module: str, root: Path) -> TestFile:
    """What a test file imports, and what its helpers import; the `conftest`s above it are helpers too."""
    packages, seen = set[str](), set[str]()
    parts = module.split(".")
    waiting = [module, *(".".join([*parts[:depth], "conftest"]) for depth in range(1, len(parts)))]
    while waiting:
        name = waiting.pop()
        path = root.joinpath(*name.split(".")).with_suffix(".py")
        if name in seen or not path.exists():
            continue
        seen.add(name)
        imports = _read(path, root)
        packages |= imports.packages
        waiting.extend(imports.support)
    return TestFile(packages=frozenset(packages), modules=frozenset(seen))
