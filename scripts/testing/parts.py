"""The parts of a test run, what of them runs side by side, and how one is run.

Three lanes run at once: tests that start sensors and collectors, tests that load programs into kernels, and all that
only computes, in as many processes as there are processors. The first two mostly wait, so the third has a lower
priority. No test depends on being alone.
"""

import math
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from scripts.testing.selection import SIDES, Selection

ROOT: Final = Path(__file__).parents[2]
LOGS: Final = ROOT / ".run" / "tests"
KERNEL_PATHS: Final = (
    "tests/bpf",
    "tests/cluster",
    "tests/sensor/ebpf",
    "tests/sensor/preflight/test_preflight.py",
    "tests/sensor/preflight/test_program_trial.py",
    "tests/sensor/enrich/test_hidden.py",
    "tests/sensor/enrich/test_kernel_identity.py",
)
HOST_PATHS: Final = ("tests/e2e",)
KERNELS: Final = ("6.1", "6.12")
# For each parser, from the same start at each run, so that a run shows what the change did. Looking for what nobody
# knows: scripts/fuzz NAME --seconds N.
FUZZ_INPUTS: Final = 20_000
# What these parts take on two processors that others share.
FUZZING_SECONDS: Final = 420.0
IMAGES_SECONDS: Final = 300.0
MACHINE_SECONDS: Final = 450.0
# Which branches of the product tests reach; it is printed once, for all parts together.
COVERAGE: Final = (
    *(f"--cov={side}" for side in SIDES if (ROOT / side).is_dir()),
    *("--cov-branch", "--cov-report="),
)
COVERAGE_FILE: Final = "coverage"
# What waits for real servers and clients has the processors first.
BEHIND: Final = ("nice", "-n", "10")
NOT_BUILT: Final = 3  # What scripts/images ends with where nothing is wrong but what it takes is not here.
# pytest's closing line: `== 3 failed, 20 passed, 1 skipped in 4.21s (0:00:04) ==`, without the signs under -q.
_CLOSING: Final = re.compile(r"^(=+ )?(no tests ran|\d+ [a-z]+(, \d+ [a-z]+)*) in [0-9.]+s\b")
# `FAILED tests/x.py::test_y[a b] - AssertionError: ..`, of which the last part may be missing.
_FAILURE: Final = re.compile(r"^(?:FAILED|ERROR) (tests/.+?)(?: - .*)?$", re.MULTILINE)
# What pytest prints of failed tests stands between the first of these and the second, each under its name.
_SECTIONS: Final = re.compile(r"^=+ (?:FAILURES|ERRORS) =+$", re.MULTILINE)
_SECTIONS_END: Final = re.compile(r"^=+ short test summary info =+$", re.MULTILINE)
_SECTION: Final = re.compile(r"^_+ (?!_ )(.+) _+$", re.MULTILINE)
SECTION_LINES: Final = 60  # Of a failure that are printed once more.
SECTIONS_MAX: Final = 20  # Of a part.
_COUNT: Final = re.compile(r"(\d+) (passed|failed|skipped|errors?|xfailed|xpassed)\b")
_COUNTED_AS: Final = {"xfailed": "skipped", "xpassed": "failed", "error": "failed", "errors": "failed"}
_NO_TESTS: Final = 5  # pytest's exit status where the arguments chose none.


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One command. `is_tests`: it is pytest, whose closing line counts. Others take `usual_seconds`, and do not begin
    where less than that is left."""

    name: str
    command: tuple[str, ...]
    is_tests: bool = True
    environment: Mapping[str, str] | None = None
    usual_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a part ended."""

    name: str
    is_tests: bool
    status: int
    closing: str  # Empty: it ended without one.
    seconds: float
    failures: tuple[str, ...] = ()  # Names of tests.

    @property
    def is_passed(self) -> bool:
        """Tests that chose nothing, and images for which something is missing here, are no fault."""
        if self.is_tests:
            return self.status in (0, _NO_TESTS) and bool(self.closing)
        return self.status in (0, NOT_BUILT)


def plan(selection: Selection | None, *, pytest_arguments: Sequence[str] = ()) -> list[list[Part]]:
    """The lanes: of the gate and what is selected, or of everything where `selection` is None. Of everything it is
    noted which branches are reached, which takes half as much time again."""
    arguments = list(pytest_arguments)
    if selection is not None:
        LOGS.mkdir(parents=True, exist_ok=True)
        listed = LOGS / "selected.txt"
        listed.write_text("".join(f"{file}\n" for file in sorted(selection.files)))
        arguments += ["--gate", "--also-full", str(listed)]
    pytest = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments)
    ignored = (f"--ignore={path}" for path in (*KERNEL_PATHS, *HOST_PATHS))
    workers = ("-n", str(os.cpu_count() or 1), "--dist", "loadfile")
    measured = COVERAGE if selection is None else ()
    kernel = Part(name="kernel", command=(*pytest, *measured, *KERNEL_PATHS), environment=_keep_coverage("kernel"))
    host = Part(name="host", command=(*pytest, *HOST_PATHS))
    units = Part(
        name="units",
        command=(*BEHIND, *pytest, *measured, *workers, *ignored, "tests"),
        environment=_keep_coverage("units"),
    )
    kernels, computed = [kernel], [units]
    if selection is None or selection.has_fuzzing:
        fuzz = (*BEHIND, "scripts/fuzz", "all", "--inputs", str(FUZZ_INPUTS))
        computed.append(Part(name="fuzzing", command=fuzz, is_tests=False, usual_seconds=FUZZING_SECONDS))
    if selection is None or selection.has_images:
        images = (*BEHIND, sys.executable, "-m", "scripts.containers")
        computed.append(Part(name="images", command=images, is_tests=False, usual_seconds=IMAGES_SECONDS))
    if selection is None or selection.has_kernels:
        for release in KERNELS:
            machine = (*BEHIND, sys.executable, "-m", "scripts.vm", "--kernel", release)
            name = f"linux-{release}"
            kernels.append(Part(name=name, command=machine, is_tests=False, usual_seconds=MACHINE_SECONDS))
    return [[host], kernels, computed]


def _keep_coverage(name: str) -> dict[str, str]:
    return {"COVERAGE_FILE": str(LOGS / f"{COVERAGE_FILE}.{name}")}


def run_lanes(lanes: Sequence[Sequence[Part]], within_seconds: float = math.inf) -> tuple[list[Result], list[str]]:
    """All parts, each lane's in order, and the names of those that `within_seconds` had no room for. The first lane is
    printed as it comes, of another that it is over, and what it had to say after all."""
    results: list[list[Result]] = [[] for _ in lanes]
    left_out: list[str] = []
    started = time.monotonic()

    def run(number: int) -> None:
        for part in lanes[number]:
            if part.usual_seconds and time.monotonic() - started + part.usual_seconds > within_seconds:
                left_out.append(part.name)
                continue
            if number == 0:
                print(f"#### {part.name}", flush=True)
            result = run_part(part, sys.stdout if number == 0 else None)
            results[number].append(result)
            print(f"#### {describe(result)}", flush=True)

    beside = [threading.Thread(target=run, args=(number,)) for number in range(1, len(lanes))]
    for thread in beside:
        thread.start()
    run(0)
    for number, thread in enumerate(beside, start=1):
        thread.join()
        for result in results[number]:
            print(f"\n#### {result.name}\n{_find_log(result.name).read_text(errors='replace')}", flush=True)
    return [result for lane in results for result in lane], left_out


def describe(result: Result) -> str:
    """One line: how a part ended, and one for each test that failed."""
    line = f"{result.name}: exit {result.status} after {result.seconds:.0f} s {result.closing}".rstrip()
    return "\n".join((line, *(f"  failed: {name}" for name in result.failures)))


def repeat_failures(results: Sequence[Result]) -> str:
    """The end of what each failed test printed, and of each other part that failed: who sees but the last of all
    output sees why."""
    lines = []
    for result in results:
        if result.is_passed:
            continue
        log = _find_log(result.name).read_text(errors="replace")
        failures = split_failures(log) if result.is_tests else []
        for name, text in failures[:SECTIONS_MAX] or [("", log)]:
            lines += [f"#### why {result.name} failed: {name}".rstrip(": "), *text.splitlines()[-SECTION_LINES:]]
        if len(failures) > SECTIONS_MAX:
            lines.append(f"#### {result.name}: {len(failures) - SECTIONS_MAX} more failures are in its log alone")
    return "\n".join(lines)


def split_failures(log: str) -> list[tuple[str, str]]:
    """What pytest printed of each test that failed, by its name."""
    begin = _SECTIONS.search(log)
    if begin is None:
        return []
    end = _SECTIONS_END.search(log, begin.end())
    _, *parts = _SECTION.split(log[begin.end() : end.start() if end else None])
    return [(name, text.strip("\n")) for name, text in zip(parts[::2], parts[1::2], strict=True)]


def _find_log(name: str) -> Path:
    return LOGS / f"{name}.log"


def run_part(part: Part, out: IO[str] | None) -> Result:
    """Runs it to its end; its output goes to its log, and to `out` as it comes."""
    started = time.monotonic()
    log = _find_log(part.name)
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("w") as file,
        subprocess.Popen(
            part.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd=ROOT,
            env={**os.environ, **(part.environment or {})},
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            file.write(line)
            file.flush()
            if out is not None:
                out.write(line)
                out.flush()
    printed = log.read_text(errors="replace")
    return Result(
        name=part.name,
        is_tests=part.is_tests,
        status=process.returncode,
        closing=find_closing(printed) if part.is_tests else "",
        seconds=time.monotonic() - started,
        failures=find_failures(printed) if part.is_tests else (),
    )


def find_closing(log: str) -> str:
    """pytest's closing line in what it printed; empty where there is none."""
    found = [line for line in log.splitlines() if _CLOSING.match(line)]
    return found[-1] if found else ""


def find_failures(log: str) -> tuple[str, ...]:
    """The tests that pytest's summary names; one that failed twice, in itself and in what follows it, is named once."""
    return tuple(dict.fromkeys(_FAILURE.findall(log)))


def add_up(results: Sequence[Result], seconds: float) -> str:
    """One closing line of all tests; an error counts as failed, and so does a part without a closing line, and one that
    is no tests and failed."""
    counts = dict.fromkeys(("passed", "failed", "skipped"), 0)
    for result in results:
        if not result.is_tests:
            counts["failed"] += not result.is_passed
            continue
        if not result.closing:
            counts["failed"] += 1
        for number, word in _COUNT.findall(result.closing):
            counts[_COUNTED_AS.get(word, word)] += int(number)
    words = ", ".join(f"{number} {word}" for word, number in counts.items())
    return f"== {words} in {seconds:.2f}s =="
