"""`python -m scripts.vm.steps [KERNEL ...]`: the table of verifier steps in docs/internals/kernels.md.

Loads all programs here and in an emulated machine for each kernel named (`6.1`, `6.12`, ...), some two minutes each,
and prints a row a program and a column a kernel. A kernel that cannot be had, or that does not report steps, has none.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from typing import Final

# Before the JSON that each of TESTS prints: {"release": of the kernel, "steps": by program}.
MARK: Final = "verifier steps: "
TESTS: Final = ("tests/bpf/test_verifier.py", "tests/bpf/test_syscall_abi.py", "tests/bpf/test_tls_abi.py")
HERE: Final = ("-m", "pytest", "-q", "-s", *TESTS)

# By release, and in it by program.
Counts = dict[str, dict[str, int]]


def collect_counts(lines: Iterable[str]) -> Counts:
    """What the tests printed."""
    counts: Counts = {}
    for line in lines:
        _, found, text = line.partition(MARK)
        if found:
            printed = json.loads(text)
            counts.setdefault(printed["release"], {}).update(printed["steps"])
    return {release: steps for release, steps in counts.items() if steps}


def render_table(counts: Mapping[str, Mapping[str, int]]) -> str:
    """Markdown: the program with the most steps on any kernel first, and the most of each kernel last."""
    programs = {program for steps in counts.values() for program in steps}
    by_most = sorted(programs, key=lambda name: -max(steps.get(name, 0) for steps in counts.values()))
    rows = [["Program", *counts], ["---"] * (len(counts) + 1)]
    rows += [
        [f"`{name}`", *(f"{steps[name]:,}" if name in steps else "" for steps in counts.values())] for name in by_most
    ]
    rows.append(["**most**", *(f"**{max(steps.values()):,}**" for steps in counts.values())])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def run_tests(arguments: Iterable[str]) -> tuple[int, Counts]:
    """The status and the counts of the tests, run by Python with these arguments."""
    done = subprocess.run([sys.executable, *arguments], stdout=subprocess.PIPE, text=True, check=False)
    counts = collect_counts(done.stdout.splitlines())
    if done.returncode or not counts:
        print(done.stdout, file=sys.stderr)
    return done.returncode, counts


def main() -> int:
    """0 where the tests passed on all kernels."""
    parser = argparse.ArgumentParser(prog="python -m scripts.vm.steps", description=__doc__)
    parser.add_argument("kernels", nargs="*", metavar="KERNEL")
    status, counts = run_tests(HERE)
    for kernel in parser.parse_args().kernels:
        failed, found = run_tests(("-m", "scripts.vm", "--kernel", kernel, *TESTS))
        status |= failed
        counts |= found
    if counts:
        print(render_table(counts))
    return status


if __name__ == "__main__":
    sys.exit(main())
