"""For all tests: what the gate leaves out, the same examples at each run, and room for open files.

`scripts/test` passes `--gate`: tests marked `full` are then left out, but for those of the files in `--also-full`, and
the summary says how many. Without it everything that was named runs.

A change is judged by itself: Hypothesis draws the same examples at each run. `pytest --hypothesis-profile search` looks
for new ones. A shared machine is slow at times and no test is of time, so examples have no deadline. Of open files the
embedded engine keeps a dozen for every store that was closed.
"""

import resource
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None)
settings.load_profile("same")

FILES = 20_000  # Servers that tests start make room by it, so not all that the machine would allow.
ROOT = Path(__file__).parent.parent

_soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
if _soft != resource.RLIM_INFINITY and _soft < FILES:
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES if _hard == resource.RLIM_INFINITY else min(FILES, _hard), _hard))

_LEFT_OUT = pytest.StashKey[Counter[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--gate", action="store_true", help="leave out the tests marked `full`")
    parser.addoption(
        "--also-full", metavar="FILE", help="a list of test files, one a line, that run in full all the same"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--gate"):
        return
    listed = config.getoption("--also-full")
    whole = set(Path(listed).read_text().splitlines()) if listed else set()
    kept, left_out = list[pytest.Item](), list[pytest.Item]()
    for item in items:
        is_left_out = item.get_closest_marker("full") and _name_file(item) not in whole
        (left_out if is_left_out else kept).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept
    counts = Counter(_name_file(item) for item in left_out)
    config.stash[_LEFT_OUT] = counts
    if hasattr(config, "workeroutput"):  # A process of pytest-xdist: only the first one prints.
        config.workeroutput["left_out"] = dict(counts)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """All processes of pytest-xdist collect the same tests, so what the last one left out is what all did."""
    node.config.stash[_LEFT_OUT] = Counter(getattr(node, "workeroutput", {}).get("left_out", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    left_out = config.stash.get(_LEFT_OUT, Counter())
    if left_out:
        files = ", ".join(f"{file} {count}" for file, count in sorted(left_out.items()))
        terminalreporter.write_line(f"LEFT OUT: {left_out.total()} tests, which scripts/test --full runs: {files}")


def _name_file(item: pytest.Item) -> str:
    return item.path.relative_to(ROOT).as_posix()
