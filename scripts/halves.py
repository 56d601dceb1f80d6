"""`scripts/test --halves [--images] [arguments]`: tests in two halves side by side, then what needs the host alone.

One half is what loads programs into the kernel, makes cgroups or compares what is attached before and after, so that no
two such tests meet; the other is all that does not need the kernel. The end-to-end tests come when both are done: their
sensors see every call of this machine, so that clients of other tests were among what they counted, and spent budgets
that a node has once. Beside them, behind all others, run the long tests that only compute and open no socket. What runs
first of two is printed as it comes, the other after it. With `--images` the images are built after the half without the
kernel, and the programs in them are run when no test runs any more, for a sensor of theirs is among what is attached.

The last lines are each process's own closing line and one in pytest's form that adds them up:
`== N passed, N failed, N skipped in S.SSs ==`.
"""

import re
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

ROOT: Final = Path(__file__).parents[1]
LOGS: Final = ROOT / ".run" / "halves"
KERNEL_PATHS: Final = (
    "tests/bpf",
    "tests/cluster",
    "tests/sensor/kernel",
    "tests/sensor/test_preflight.py",
    "tests/sensor/enrich/test_hidden.py",
    "tests/sensor/enrich/test_kernel_identity.py",
)
HOST_PATHS: Final = ("tests/e2e",)
# What only computes, and long: no sensor sees it, wherever it runs.
COMPUTED_PATHS: Final = ("tests/accuracy", "tests/collector/anomaly")
TESTS: Final = ("kernel", "rest", "host", "computed")
IMAGES: Final = (sys.executable, "-m", "scripts.containers")
# What waits for real servers and clients has the processors first: beside an equal half, three such tests failed once.
BEHIND: Final = ("nice", "-n", "10")
LAST: Final = ("nice", "-n", "19")
NOT_BUILT: Final = 3  # What scripts/images ends with where nothing is wrong but what it takes is not here.
# pytest's closing line: `== 3 failed, 20 passed, 1 skipped in 4.21s (0:00:04) ==`, without the signs under -q.
_CLOSING: Final = re.compile(r"^(=+ )?(no tests ran|\d+ [a-z]+(, \d+ [a-z]+)*) in [0-9.]+s\b")
_COUNT: Final = re.compile(r"(\d+) (passed|failed|skipped|errors?|xfailed|xpassed)\b")
_COUNTED_AS: Final = {"xfailed": "skipped", "xpassed": "failed", "error": "failed", "errors": "failed"}
_NO_TESTS: Final = 5  # pytest's exit status where the arguments chose none.


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How one process ended."""

    name: str
    status: int
    closing: str  # Empty: it ended without one.
    seconds: float


def list_commands(arguments: Sequence[str]) -> dict[str, list[str]]:
    """pytest of each of `TESTS`. They share no cache of what failed last."""
    pytest = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    ignored = (f"--ignore={path}" for path in (*KERNEL_PATHS, *HOST_PATHS, *COMPUTED_PATHS))
    return {
        "kernel": [*pytest, *KERNEL_PATHS],
        "rest": [*BEHIND, *pytest, *ignored, "tests"],
        "host": [*pytest, *HOST_PATHS],
        "computed": [*LAST, *pytest, *COMPUTED_PATHS],
    }


def find_closing(log: str) -> str:
    """pytest's closing line in what it printed; empty where there is none."""
    found = [line for line in log.splitlines() if _CLOSING.match(line)]
    return found[-1] if found else ""


def add_up(closings: Sequence[str], seconds: float) -> str:
    """One closing line of them all; an error counts as failed, and so does a half without a closing line."""
    counts = dict.fromkeys(("passed", "failed", "skipped"), 0)
    for closing in closings:
        if not closing:
            counts["failed"] += 1
        for number, word in _COUNT.findall(closing):
            counts[_COUNTED_AS.get(word, word)] += int(number)
    words = ", ".join(f"{number} {word}" for word, number in counts.items())
    return f"== {words} in {seconds:.2f}s =="


def run_part(name: str, command: Sequence[str], out: IO[str] | None) -> Result:
    """Runs it to its end; its output goes to its log, and to `out` as it comes."""
    started = time.monotonic()
    log = LOGS / f"{name}.log"
    with (
        log.open("w") as file,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            file.write(line)
            file.flush()
            if out is not None:
                out.write(line)
                out.flush()
    return Result(
        name=name,
        status=process.returncode,
        closing=find_closing(log.read_text()),
        seconds=time.monotonic() - started,
    )


def main(arguments: Sequence[str]) -> int:
    """0 only if all tests passed, and the images were built and shown to work or could not be built here."""
    is_with_images = "--images" in arguments
    commands = list_commands([argument for argument in arguments if argument != "--images"])
    LOGS.mkdir(parents=True, exist_ok=True)
    results: list[Result] = []
    started = time.monotonic()

    def run_beside(name: str) -> None:
        results.append(run_part(name, commands[name], None))
        if is_with_images and name == "rest":
            results.append(run_part("images-build", [*BEHIND, *IMAGES, "--build"], None))

    for first, second in (("kernel", "rest"), ("host", "computed")):
        print(f"#### {first}", flush=True)
        known = len(results)
        beside = threading.Thread(target=run_beside, args=(second,), name=second)
        beside.start()
        outcome = run_part(first, commands[first], sys.stdout)
        beside.join()
        for result in results[known:]:
            print(f"\n#### {result.name}\n{(LOGS / f'{result.name}.log').read_text()}", flush=True)
        results.append(outcome)
    seconds = time.monotonic() - started
    if is_with_images:
        print("#### images", flush=True)
        results.append(run_part("images", IMAGES, sys.stdout))
    print()
    for result in results:
        print(f"{result.name}: exit {result.status} after {result.seconds:.0f} s {result.closing}".rstrip())
    print(add_up([result.closing for result in results if result.name in TESTS], seconds), flush=True)
    return 0 if is_passed(results) else 1


def is_passed(results: Sequence[Result]) -> bool:
    """Whether nothing failed and some test ran."""
    tests = [result for result in results if result.name in TESTS]
    images = [result for result in results if result.name not in TESTS]
    return (
        all(result.status in (0, _NO_TESTS) and result.closing for result in tests)
        and any(result.status == 0 for result in tests)
        and all(result.status in (0, NOT_BUILT) for result in images)
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
