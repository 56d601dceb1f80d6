"""Which share of the product's branches the tests of a run reached, for each side."""

import json
from pathlib import Path

from coverage import Coverage
from coverage.exceptions import CoverageException

from scripts.testing.parts import COVERAGE_FILE, LOGS
from scripts.testing.selection import ROOT, SIDES


def report_branches(directory: Path = LOGS) -> str:
    """One line, as `branches reached: sensor 8,123 of 9,456 (85.9%), collector ..`. What ran as a program of its own,
    as in the end-to-end tests, is not in it."""
    coverage = Coverage(data_file=str(directory / COVERAGE_FILE), branch=True, messages=False)
    report = directory / "coverage.json"
    try:
        coverage.combine([str(path) for path in directory.glob(f"{COVERAGE_FILE}.*")], keep=True)
        coverage.json_report(outfile=str(report))
    except CoverageException as error:
        return f"branches reached: not known ({error})"
    files = json.loads(report.read_text())["files"]
    sides = []
    for side in SIDES:
        summaries = [
            found["summary"] for path, found in files.items() if Path(path).absolute().is_relative_to(ROOT / side)
        ]
        reached, possible = (sum(one[name] for one in summaries) for name in ("covered_branches", "num_branches"))
        if possible:
            sides.append(f"{side} {reached:,} of {possible:,} ({reached / possible:.1%})")
    return f"branches reached: {', '.join(sides)}"
