"""Compares the pinned Python packages with known vulnerabilities, from a file of advisories: no network.

    python -m scripts.audit [ADVISORIES]

ADVISORIES, or APIDAE_ADVISORIES, is a directory or a .zip of advisories in the format of OSV, as JSON or YAML: OSV's
export of PyPI (`PyPI/all.zip` of osv.dev), or a checkout of PyPA's advisory-database. It is nobody's part of this
repository, since it ages by the day. Without it the audit says that it did not run, and that is no failure.

Each match is one line with the lock file, the package and the advisory. What was considered and accepted is in
`ACCEPTED`, with the reason. Exits with 1 where a package of `requirements/run.lock`, which users get, has an advisory.

Source: https://ossf.github.io/osv-schema/ (affected, ranges, events).
"""

import argparse
import hashlib
import json
import os
import re
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

ROOT: Final = Path(__file__).parent.parent
LOCKS: Final = ("run.lock", "test.lock")
SHIPPED: Final = "run.lock"
ACCEPTED: Final[Mapping[str, str]] = {}  # Why an advisory does not concern us, by its id.
_PIN: Final = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)
_SUFFIXES: Final = (".json", ".yaml", ".yml")


@dataclass(frozen=True, slots=True, order=True)
class Match:
    """A pinned package that an advisory names."""

    lock: str
    package: str
    version: str
    advisory: str
    summary: str

    def __str__(self) -> str:
        return f"{self.lock}: {self.package} {self.version}: {self.advisory} {self.summary}".rstrip()


def read_pins(text: str) -> dict[str, str]:
    """Versions of a lock file by normalised name."""
    return {canonicalize_name(name): version for name, version in _PIN.findall(text)}


def list_documents(place: Path) -> Iterator[str]:
    """The texts of all advisories in a directory or archive. Raises OSError, zipfile.BadZipFile."""
    if place.is_dir():
        files = (path for path in sorted(place.rglob("*")) if path.suffix in _SUFFIXES and path.is_file())
        yield from (path.read_text(encoding="utf-8", errors="replace") for path in files)
        return
    with zipfile.ZipFile(place) as archive:
        for name in archive.namelist():
            if name.endswith(_SUFFIXES):
                yield archive.read(name).decode("utf-8", "replace")


def read_advisory(text: str) -> dict[str, Any]:
    """One advisory; empty where the text is not one. Dates stay text."""
    try:
        found = json.loads(text) if text.lstrip().startswith("{") else yaml.load(text, Loader=yaml.BaseLoader)
    except (ValueError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) and "id" in found else {}


def is_affected(version: str, affected: Mapping[str, Any]) -> bool:
    """Whether an entry of `affected` covers a version: it is listed, or lies in a range."""
    if version in affected.get("versions", ()):
        return True
    try:
        own = Version(version)
    except InvalidVersion:
        return False
    return any(
        _is_within(own, span.get("events", ())) for span in affected.get("ranges", ()) if span["type"] == "ECOSYSTEM"
    )


def _is_within(version: Version, events: Iterable[Mapping[str, str]]) -> bool:
    """As osv-schema evaluates a range: the last event at or before the version decides."""
    is_hit = False
    for event in events:
        for kind, text in event.items():
            try:
                at = Version("0" if text == "0" else text)
            except InvalidVersion:
                continue
            if kind == "introduced" and version >= at:
                is_hit = True
            elif (kind == "fixed" and version >= at) or (kind == "last_affected" and version > at):
                is_hit = False
    return is_hit


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """All matches, how many advisories were read, and the day of the newest; empty where none was."""

    matches: tuple[Match, ...]
    advisories: int
    newest: str


def find_matches(pins: Mapping[str, Mapping[str, str]], documents: Iterable[str]) -> Findings:
    """Compares pins, by lock file and package, with all advisories."""
    names = {name for known in pins.values() for name in known}
    found, count, newest = set[Match](), 0, ""
    for text in documents:
        if not (advisory := read_advisory(text)):
            continue
        count += 1
        newest = max(newest, str(advisory.get("modified", ""))[:10])
        if advisory.get("withdrawn") or advisory["id"] in ACCEPTED:
            continue
        for affected in advisory.get("affected", ()):
            package = affected.get("package", {})
            name = canonicalize_name(str(package.get("name", "")))
            if package.get("ecosystem") != "PyPI" or name not in names:
                continue
            for lock, known in pins.items():
                if name in known and is_affected(known[name], affected):
                    summary = str(advisory.get("summary") or advisory.get("details") or "").split("\n", 1)[0][:120]
                    found.add(Match(lock, name, known[name], str(advisory["id"]), summary))
    return Findings(matches=tuple(sorted(found)), advisories=count, newest=newest)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("advisories", nargs="?", type=Path, default=os.environ.get("APIDAE_ADVISORIES"))
    place = parser.parse_args().advisories
    if place is None:
        print("audit: did not run: no advisories are here. Set APIDAE_ADVISORIES to a directory or .zip of them.")
        return
    place = Path(place)
    pins = {lock: read_pins((ROOT / "requirements" / lock).read_text()) for lock in LOCKS}
    try:
        found = find_matches(pins, list_documents(place))
        mark = hashlib.sha256(place.read_bytes()).hexdigest()[:16] if place.is_file() else "directory"
    except (OSError, zipfile.BadZipFile) as error:
        print(f"audit: did not run: {place} cannot be read ({error}).")
        return
    if not found.advisories:
        print(f"audit: did not run: {place} has no advisories.")
        return
    for match in found.matches:
        print(f"audit: {match}")
    packages = ", ".join(f"{len(known)} of {lock}" for lock, known in pins.items())
    print(f"audit: {len(found.matches)} matches among {packages}; {found.advisories} advisories ({place}, {mark}),")
    print(f"audit: the newest is of {found.newest or 'no day'}; what was published later is not in them.")
    sys.exit(any(match.lock == SHIPPED for match in found.matches))


if __name__ == "__main__":
    main()
