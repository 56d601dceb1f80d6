"""Tests in parts: what of pytest's output is read, and that each test is in one; none of the kernel is in the rest."""

import re
import sys
from pathlib import Path

import pytest

from scripts.halves import (
    COMPUTED_PATHS,
    HOST_PATHS,
    KERNEL_PATHS,
    ROOT,
    Result,
    add_up,
    find_closing,
    is_passed,
    list_commands,
    run_part,
)

_MARKED = re.compile(r"pytest\.mark\.(kernel|cluster)\b")


def test_tests_of_the_kernel_are_not_in_the_rest() -> None:
    marked = [
        file.relative_to(ROOT).as_posix()
        for file in (ROOT / "tests").rglob("*.py")
        if _MARKED.search(file.read_text()) and file.name != "test_halves.py"
    ]
    assert len(marked) > 20
    assert not [path for path in marked if not path.startswith((*KERNEL_PATHS, *HOST_PATHS))]
    assert all((ROOT / path).exists() for path in (*KERNEL_PATHS, *HOST_PATHS, *COMPUTED_PATHS))


def test_what_only_computes_opens_no_socket() -> None:
    """It runs beside sensors that see all of this machine."""
    texts = {file: file.read_text() for path in COMPUTED_PATHS for file in (ROOT / path).rglob("*.py")}
    assert len(texts) > 20
    assert not [file for file, text in texts.items() if re.search(r"\b(socket|httpx|uvicorn|grpc|TestClient)\b", text)]


def test_every_test_is_in_one_part() -> None:
    commands = list_commands(["-x"])
    assert commands["rest"][-1] == "tests"
    ignored = [word.removeprefix("--ignore=") for word in commands["rest"] if word.startswith("--ignore=")]
    assert sorted(ignored) == sorted((*KERNEL_PATHS, *HOST_PATHS, *COMPUTED_PATHS))
    for name, paths in (("kernel", KERNEL_PATHS), ("host", HOST_PATHS), ("computed", COMPUTED_PATHS)):
        assert [word for word in commands[name] if word.startswith("tests/")] == list(paths)
    assert all("-x" in command for command in commands.values())


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
        ("Killed\n", "", "0 passed, 1 failed, 0 skipped"),
        ("says 20 passed in all\n", "", "0 passed, 1 failed, 0 skipped"),
    ],
)
def test_closing_lines_add_up(log: str, closing: str, sum_: str) -> None:
    assert find_closing(log) == closing
    assert add_up([closing], 4.2) == f"== {sum_} in 4.20s =="


def result(name: str, status: int, closing: str = "= 1 passed in 1s =") -> Result:
    return Result(name=name, status=status, closing=closing, seconds=1)


def test_what_fails_is_not_passed() -> None:
    passed = [result("kernel", 0), result("rest", 0)]
    assert is_passed(passed)
    assert is_passed([result("kernel", 0), result("rest", 5)]) and not is_passed(
        [result("kernel", 5), result("rest", 5)]
    )
    assert not is_passed([result("kernel", 0), result("rest", 1)])
    assert not is_passed([result("kernel", 0, closing=""), result("rest", 0)])
    assert is_passed([*passed, result("images", 3, "")]) and not is_passed([*passed, result("images", 1, "")])


def test_a_part_gives_its_status_and_closing_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("scripts.halves.LOGS", tmp_path)
    program = "import sys; print('= 1 failed, 2 passed in 0.1s ='); sys.exit(1)"
    done = run_part("rest", [sys.executable, "-c", program], None)
    assert (done.status, add_up([done.closing], 0.1)) == (1, "== 2 passed, 1 failed, 0 skipped in 0.10s ==")
    assert "2 passed" in (tmp_path / "rest.log").read_text()
