"""`scripts/test` without paths: the gate. `--changed` adds the full tests of what changed, `--full` is everything.

The last lines are the end of what each failed test printed, each part's own closing line, the branches of the product
that tests reached, and one line in pytest's form that adds them up: `== N passed, N failed, N skipped in S.SSs ==`.
The exit code is 0 only if all passed.
"""

import argparse
import math
import shutil
import sys
import time

from scripts.testing.branches import report_branches
from scripts.testing.parts import LOGS, add_up, describe, plan, repeat_failures, run_lanes
from scripts.testing.selection import Selection, read_landed, select

NOTHING = Selection(files=frozenset(), has_images=False, has_kernels=False, has_fuzzing=False, reason="the gate alone")


def main(arguments: list[str]) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="scripts/test", description=__doc__.partition("\n")[0])
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument("--full", action="store_true", help="everything")
    extent.add_argument(
        "--changed",
        nargs="?",
        const=read_landed(),
        metavar="COMMIT",
        help="the gate, and in full the tests of the packages that changed since a commit (as .ci/landed names it)",
    )
    parser.add_argument(
        "--within",
        type=float,
        default=math.inf,
        metavar="MINUTES",
        help="begin no images, other kernels or fuzzing that would end later than this",
    )
    options, others = parser.parse_known_args(arguments)
    selection = None if options.full else NOTHING if options.changed is None else select(options.changed)
    print("tests:", "everything" if selection is None else selection.reason, flush=True)
    shutil.rmtree(LOGS, ignore_errors=True)
    LOGS.mkdir(parents=True)
    started = time.monotonic()
    lanes = plan(selection, pytest_arguments=others)
    results, late = run_lanes(lanes, options.within * 60)
    seconds = time.monotonic() - started
    print(f"\n{repeat_failures(results)}\n")
    for left_out in _list_left_out(selection):
        print(f"LEFT OUT: {left_out}, which scripts/test --full runs")
    for name in late:
        print(f"LEFT OUT: {name}, for which {options.within:.0f} minutes had no room; scripts/test --full runs it")
    for result in results:
        print(describe(result))
    print(report_branches() if selection is None else "branches reached: --full says")
    print(add_up(results, seconds), flush=True)
    return 0 if all(result.is_passed for result in results) else 1


def _list_left_out(selection: Selection | None) -> list[str]:
    """Parts that are no tests of pytest; those say themselves which tests they left out."""
    if selection is None:
        return []
    parts = {
        "building the images and running what is in them": selection.has_images,
        "other kernels": selection.has_kernels,
        "fuzzing by time": selection.has_fuzzing,
    }
    return [name for name, is_chosen in parts.items() if not is_chosen]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
