"""The part of requirements/run.lock that one side needs, on standard output: `select_lock.py sensor|collector|build`.

The lock says beside each package what it is there for (`# via`), so the part is what is reached from the side's own
dependencies in pyproject.toml. Standard library only: it runs in an image that is being built.
"""

import re
import sys
import tomllib
from pathlib import Path

# What a package's metadata asks for and nothing that runs in an image imports: chdb-core wants pandas for the data
# frames that its callers may ask for.
UNUSED = frozenset({"pandas"})

_ENTRY = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==.*?(?=^[A-Za-z0-9]|\Z)", re.DOTALL | re.MULTILINE)
_VIA = re.compile(r"# via(.*)", re.DOTALL)
_NAME = re.compile(r"^[A-Za-z0-9._-]+")


def canonical(name: str) -> str:
    """As PEP 503 compares names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def list_roots(project: dict, side: str) -> set[str]:
    """Names that a side's metadata asks for; of `build`, what makes the wheel."""
    if side == "build":
        asked = project["build-system"]["requires"]
    else:
        asked = project["project"]["dependencies"] + project["project"]["optional-dependencies"][side]
    return {canonical(_NAME.match(text)[0]) for text in asked}


def select(lock: str, roots: set[str]) -> str:
    """The entries of the lock that are reached from `roots`, but not through what is unused.

    Raises SystemExit where a root is not locked."""
    entries = {canonical(match["name"]): match[0] for match in _ENTRY.finditer(lock)}
    missing = roots - entries.keys()
    if missing:
        raise SystemExit(f"requirements/run.lock does not hold {', '.join(sorted(missing))}; run scripts/lock")
    parents = {
        name: {canonical(part) for part in re.findall(r"[A-Za-z0-9._-]+", _VIA.search(text)[1])}
        for name, text in entries.items()
    }
    found: set[str] = set()
    grown = roots
    while grown:
        found |= grown
        grown = {name for name, of in parents.items() if of & grown} - found - UNUSED
    return "".join(entries[name] for name in sorted(found))


def main() -> None:
    """Reads the checkout in which it lies."""
    root = Path(__file__).parents[1]
    project = tomllib.loads((root / "pyproject.toml").read_text())
    sys.stdout.write(select((root / "requirements/run.lock").read_text(), list_roots(project, sys.argv[1])))


if __name__ == "__main__":
    main()
