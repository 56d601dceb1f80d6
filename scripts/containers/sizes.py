"""What is in an image, by size: `scripts/images --build --sizes` writes the table of images/README.md.

Bytes of the files of the archive, unpacked; a file with two names counts once. An image above its budget fails
`scripts/images`, so that it does not grow unseen.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from scripts.containers.archive import group_entries
from scripts.containers.rootfs import CONTAINERFILES

README: Final = CONTAINERFILES / "README.md"
# Bytes. What stands in the way of less: images/README.md.
BUDGETS: Final = {"sensor": 200_000_000, "collector": 870_000_000}
ROW_BYTES: Final = 5_000_000  # What is less in both images is one row together.
_SITE: Final = r"opt/apidae/lib/python3[^/]*/site-packages/"
# The first that matches: (what it is, paths). `\1` is the first group of the pattern.
_PARTS: Final = (
    ("ClickHouse (chdb)", _SITE + "chdb"),
    ("Arrow (pyarrow)", _SITE + "pyarrow"),
    ("numpy, of it OpenBLAS 24", _SITE + "numpy"),
    ("Apidae", _SITE + "(?:apidae|common|sensor|collector)"),
    (r"\1", _SITE + r"([A-Za-z0-9_]+)"),
    ("Python", r"usr/lib/python3|usr/bin/python3"),
    ("C library, OpenSSL and other libraries of Debian", r"usr/lib/"),
    ("other files of Debian", ""),
)
_BEGIN: Final = "<!-- scripts/images --build --sizes -->\n"
_END: Final = "<!-- end of sizes -->\n"


def measure(root: Path) -> dict[str, int]:
    """Bytes by part, largest first."""
    sizes: dict[str, int] = {}
    seen: set[int] = set()
    for path in (path for paths in group_entries(root).values() for path in paths):
        status = (root / path).lstat()
        if not (root / path).is_symlink() and (root / path).is_file() and status.st_ino not in seen:
            seen.add(status.st_ino)
            part = name_part(path)
            sizes[part] = sizes.get(part, 0) + status.st_size
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def name_part(path: str) -> str:
    """What a file belongs to."""
    for words, pattern in _PARTS:
        if found := re.match(pattern, path):
            return found.expand(words)
    raise AssertionError(path)


def check_budget(side: str, total: int) -> str:
    """Empty, or a sentence: the image has grown above what it may have."""
    budget = BUDGETS[side]
    if total <= budget:
        return ""
    return (
        f"the {side}'s image has {total / 1e6:.0f} MB, and its budget is {budget / 1e6:.0f} MB: take out what it does "
        "not read (images/slim.py), or raise the budget in scripts/containers/sizes.py and say why"
    )


def make_table(sizes: Mapping[str, Mapping[str, int]]) -> str:
    """By part and image, in megabytes."""
    sides = list(sizes)
    parts = sorted({part for side in sides for part in sizes[side]}, key=lambda part: _find_largest(sizes, part))
    large = [part for part in reversed(parts) if _find_largest(sizes, part) > ROW_BYTES]
    rows = [(part, [sizes[side].get(part, 0) for side in sides]) for part in large]
    rest = [sum(size for part, size in sizes[side].items() if part not in large) for side in sides]
    rows += [("all others", rest), ("**together**", [sum(sizes[side].values()) for side in sides])]
    lines = [f"| Part | {' | '.join(f'{side}, MB' for side in sides)} |", f"|---|{'---:|' * len(sides)}"]
    for part, numbers in rows:
        lines.append(f"| {part} | {' | '.join(f'{number / 1e6:.0f}' if number else '' for number in numbers)} |")
    return "\n".join(lines) + "\n"


def _find_largest(sizes: Mapping[str, Mapping[str, int]], part: str) -> int:
    return max(of.get(part, 0) for of in sizes.values())


def write_table(sizes: Mapping[str, Mapping[str, int]], path: Path = README) -> None:
    """Into the page, between its two marks."""
    before, _, rest = path.read_text().partition(_BEGIN)
    _, mark, after = rest.partition(_END)
    if not mark:
        raise ValueError(f"{path.name} has no marks {_BEGIN.strip()} and {_END.strip()}")
    path.write_text(f"{before}{_BEGIN}{make_table(sizes)}{_END}{after}")
