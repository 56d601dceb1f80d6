"""The parts of a test run: each test is in one of them, and what is read of their output."""

import re
import sys
from pathlib import Path

import pytest

from scripts.testing.parts import (
    HOST_PATHS,
    KERNEL_PATHS,
    ROOT,
    Part,
    Result,
    add_up,
    describe,
    find_closing,
    find_failures,
    plan,
    repeat_failures,
    run_lanes,
    run_part,
    split_failures,
)
from scripts.testing.selection import Selection

_MARKED = re.compile(r"pytest\.mark\.(kernel|cluster)\b")
_GATE = Selection(files=frozenset({"tests/a.py"}), has_images=False, has_kernels=False, has_fuzzing=False, reason="")


def test_tests_of_the_kernel_are_not_among_the_units() -> None:
    marked = [
        file.relative_to(ROOT).as_posix()
        for file in (ROOT / "tests").rglob("*.py")
        if _MARKED.search(file.read_text()) and file.name != "test_parts.py"
    ]
    assert len(marked) > 20
    assert not [path for path in marked if not path.startswith((*KERNEL_PATHS, *HOST_PATHS))]
    assert all((ROOT / path).exists() for path in (*KERNEL_PATHS, *HOST_PATHS))


def test_every_test_is_in_one_part() -> None:
    (host,), (kernel, *_), (units, *_) = plan(None)
    ignored = [word.removeprefix("--ignore=") for word in units.command if word.startswith("--ignore=")]
    assert sorted(ignored) == sorted((*KERNEL_PATHS, *HOST_PATHS)) and units.command[-1] == "tests"
    for part, paths in ((kernel, KERNEL_PATHS), (host, HOST_PATHS)):
        assert [word for word in part.command if word.startswith("tests/")] == list(paths)


def test_the_gate_has_what_is_selected_and_everything_has_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A worker that takes the place of one that crashed reads what this run has selected.
    monkeypatch.setattr("scripts.testing.parts.LOGS", tmp_path)
    gate = [part for lane in plan(_GATE, pytest_arguments=["-x"]) for part in lane]
    assert [part.name for part in gate] == ["host", "kernel", "units"]
    assert all({"--gate", "--also-full", "-x"} <= set(part.command) for part in gate)
    everything = [part for lane in plan(None) for part in lane]
    assert not any("--gate" in part.command for part in everything)
    assert [part.name for part in everything] == [
        *("host", "kernel", "linux-6.1", "linux-6.12", "units", "fuzzing", "images")
    ]
    assert all(part.is_tests or part.usual_seconds for part in everything)


@pytest.mark.parametrize(
    ("log", "closing", "sum_"),
    [
        ("..\n=== 20 passed in 4.21s ===\n", "=== 20 passed in 4.21s ===", "20 passed, 0 failed, 0 skipped"),
        (
            "x\n= 1 failed, 20 passed, 2 skipped, 1 error in 64.2s (0:01:04) =\nmore\n",
            "= 1 failed, 20 passed, 2 skipped, 1 error in 64.2s (0:01:04) =",
            "20 passed, 2 failed, 2 skipped",
        ),
        ("=== no tests ran in 0.1s ===", "=== no tests ran in 0.1s ===", "0 passed, 0 failed, 0 skipped"),
        (
            "== 5 passed, 900 deselected in 9.1s ==\n",
            "== 5 passed, 900 deselected in 9.1s ==",
            "5 passed, 0 failed, 0 skipped",
        ),
        ("Killed\n", "", "0 passed, 1 failed, 0 skipped"),
        ("says 20 passed in all\n", "", "0 passed, 1 failed, 0 skipped"),
    ],
)
def test_closing_lines_add_up(log: str, closing: str, sum_: str) -> None:
    assert find_closing(log) == closing
    assert add_up([make_result(0, closing)], 4.2) == f"== {sum_} in 4.20s =="


def test_a_part_names_what_failed() -> None:
    log = """collecting
FAILED tests/a.py::test_b[x y-z] - AssertionError: assert 1 - 2 == 3
ERROR tests/a.py::test_b[x y-z] - OSError
FAILED tests/c.py::test_d
=== 2 failed, 1 error in 3.00s ===
"""
    assert find_failures(log) == ("tests/a.py::test_b[x y-z]", "tests/c.py::test_d")
    failed = Result(name="a", is_tests=True, status=1, closing="", seconds=1, failures=find_failures(log))
    assert describe(failed).splitlines()[1:] == [f"  failed: {name}" for name in failed.failures]


def test_the_end_of_each_failure_is_printed_once_more() -> None:
    many = "\n".join(f"line {number}" for number in range(100))
    log = f"""tests/a.py F
==== ERRORS ====
____ ERROR at setup of test_e ____
no room
==== FAILURES ====
____ test_b[x y] ____

tests/a.py:3:
_ _ _ _ _ _
{many}
E  assert 1 == 2
_ {"test_with_a_long_name" * 4} _
E  late
==== short test summary info ====
FAILED tests/a.py::test_b[x y]
==== 2 failed, 1 error in 3.00s ====
"""
    assert [name for name, _ in split_failures(log)] == [
        *("ERROR at setup of test_e", "test_b[x y]", "test_with_a_long_name" * 4)
    ]
    script = "import sys; print(sys.argv[1]); sys.exit(1)"
    tests = Part(name="probe-tests", command=(sys.executable, "-c", script, log))
    fuzz = Part(name="probe-fuzz", command=(sys.executable, "-c", script, many), is_tests=False)
    good = Part(name="probe-good", command=(sys.executable, "-c", "print('= 3 passed in 0.1s =')"))
    results = [run_part(part, None) for part in (tests, fuzz, good)]
    printed = repeat_failures(results).splitlines()
    assert [line for line in printed if line.startswith("####")] == [
        "#### why probe-tests failed: ERROR at setup of test_e",
        "#### why probe-tests failed: test_b[x y]",
        f"#### why probe-tests failed: {'test_with_a_long_name' * 4}",
        "#### why probe-fuzz failed",
    ]
    assert printed.count("line 99") == 2 and printed.count("E  assert 1 == 2") == 1 and "line 30" not in printed
    assert repeat_failures(results[2:]) == ""


def test_what_is_no_tests_counts_where_it_fails() -> None:
    results = [make_result(0), make_result(1, "", is_tests=False), make_result(3, "", is_tests=False)]
    assert add_up(results, 1.0) == "== 1 passed, 1 failed, 0 skipped in 1.00s =="


def make_result(status: int, closing: str = "= 1 passed in 1s =", *, is_tests: bool = True) -> Result:
    return Result(name="a", is_tests=is_tests, status=status, closing=closing, seconds=1)


def test_what_fails_is_not_passed() -> None:
    assert make_result(0).is_passed
    assert make_result(5, "no tests ran in 1s").is_passed
    assert not make_result(1).is_passed
    assert not make_result(0, "").is_passed  # It ended without a closing line.
    assert make_result(0, "", is_tests=False).is_passed
    assert make_result(3, "", is_tests=False).is_passed  # What the images need is not here.
    assert not make_result(1, "", is_tests=False).is_passed


def test_a_part_begins_only_if_there_is_time_for_it(capsys: pytest.CaptureFixture[str]) -> None:
    script = (sys.executable, "-c", "print('= 3 passed in 0.1s =')")
    tests = Part(name="probe-tests", command=script)
    long = Part(name="probe-long", command=script, is_tests=False, usual_seconds=3_600.0)
    results, left_out = run_lanes([[tests], [long, tests]], within_seconds=60.0)
    assert [result.name for result in results] == ["probe-tests", "probe-tests"] and left_out == ["probe-long"]
    assert "#### probe-tests: exit 0 after" in capsys.readouterr().out
    results, left_out = run_lanes([[tests, long]])
    assert [result.name for result in results] == ["probe-tests", "probe-long"] and left_out == []


def test_a_part_is_printed_as_it_comes_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = "import os; print('one'); print('= 3 passed in 0.1s ='); os._exit(int(os.environ['STATUS']))"
    part = Part(name="probe", command=(sys.executable, "-u", "-c", script), environment={"STATUS": "4"})
    result = run_part(part, sys.stdout)
    assert (result.status, result.closing) == (4, "= 3 passed in 0.1s =")
    assert capsys.readouterr().out == "one\n= 3 passed in 0.1s =\n"
