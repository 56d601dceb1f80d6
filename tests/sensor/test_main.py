"""The `apidae` command with one side installed only, and with a wrong command line."""

import subprocess
import sys

import pytest

from common.main import HEADINGS, OWN, SIDES, build_app

# A blocked import is what an extra that is not installed looks like: ModuleNotFoundError with the module's name.
RUN_BLOCKED = """
import sys
for name in {modules!r}:
    sys.modules[name] = None
from common.main import main
sys.argv = ["apidae", *{arguments!r}]
main()
"""


def run_without(extra: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = RUN_BLOCKED.format(modules=sorted(SIDES[extra].modules), arguments=list(arguments))
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("extra", "arguments"),
    [
        ("collector", ("collector", "--data-dir", "/nonexistent")),
        ("collector", ("get", "endpoints", "-o", "json")),
        ("sensor", ("sensor", "--collector", "127.0.0.1:1")),
        ("sensor", ("preflight",)),
    ],
)
def test_missing_extra_is_named(extra: str, arguments: tuple[str, ...]) -> None:
    done = run_without(extra, *arguments)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"`apidae {arguments[0]}` needs" in done.stderr and f"pip install 'apidae[{extra}]'" in done.stderr


@pytest.mark.parametrize(("extra", "other"), [("collector", "preflight"), ("sensor", "get")])
def test_other_side_works(extra: str, other: str) -> None:
    done = run_without(extra, other, "--help")
    assert done.returncode == 0
    assert "Needs the" not in done.stdout and "--help" in done.stdout


def test_every_command_of_a_side_is_known() -> None:
    app = build_app()
    registered = {command.name for command in app.registered_commands} | {group.name for group in app.registered_groups}
    assert registered == {*OWN, *(command for side in SIDES.values() for command in side.names)} == set(HEADINGS)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("collector", "--data-dri", "x"), "--data-dri"),
        (("sensor", "--ring-bytes", "many"), "--ring-bytes"),
        (("colector",), "colector"),
    ],
)
def test_wrong_command_line_is_one_sentence(arguments: tuple[str, ...], named: str) -> None:
    program = "import sys; from common.main import main; sys.argv = ['apidae', *sys.argv[1:]]; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert named in done.stderr and "--help`" in done.stderr


@pytest.mark.parametrize(("command", "other"), [("get", "sensor"), ("collector", "sensor"), ("pause", "collector")])
def test_a_command_loads_its_side_only(command: str, other: str) -> None:
    program = (
        "import sys; sys.argv[1:] = [sys.argv[1], '--help']\n"
        "from common.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(*sorted(name for name in sys.modules if name.split('.')[0] == sys.argv[2]), file=sys.stderr)"
    ).replace("sys.argv[2]", repr(other))
    done = subprocess.run([sys.executable, "-c", program, command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and command in done.stdout
    assert set(done.stderr.split()) <= {"sensor", "common.main"}
