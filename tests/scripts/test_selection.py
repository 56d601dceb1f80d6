"""Which tests a change asks for."""

import subprocess
from pathlib import Path

import pytest

from scripts.testing.selection import (
    DOCS,
    LANDED_FILE,
    ROOT,
    list_changes,
    name_package,
    read_graph,
    read_landed,
    select,
    select_of,
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A product of three packages, of which `sensor.route` imports `sensor.head`, and a test for each."""
    files = {
        "sensor/head/lines.py": "",
        "sensor/route/__init__.py": "from sensor.head.lines import Head\n",
        "sensor/capture/tls/elf.py": "import struct\n",
        "collector/server/run.py": "",
        "tests/sensor/test_head.py": "from sensor.head.lines import Head\n",
        "tests/sensor/test_route.py": "def test():\n    from sensor import route\n",
        "tests/sensor/test_elf.py": "from tests.builders import build\n",
        "tests/builders.py": "import sensor.capture.tls.elf\n",
        "tests/e2e/test_page.py": "import pytest\n\npytestmark = pytest.mark.full('docs', 'collector.server')\n",
        "tests/e2e/conftest.py": "from tests import waits\n",
        "tests/waits.py": "",
        "docs/page.md": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for command in (
        ("init", "-q"),
        ("add", "."),
        ("-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-qm", "a"),
    ):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    return tmp_path


@pytest.mark.parametrize(
    ("changed", "selected"),
    [
        ("sensor/head/lines.py", {"tests/sensor/test_head.py", "tests/sensor/test_route.py"}),
        ("sensor/route/__init__.py", {"tests/sensor/test_route.py"}),
        ("sensor/capture/tls/elf.py", {"tests/sensor/test_elf.py"}),
        ("sensor/capture/tls/data.txt", {"tests/sensor/test_elf.py"}),
        ("collector/server/run.py", {"tests/e2e/test_page.py"}),
        ("tests/builders.py", {"tests/sensor/test_elf.py"}),
        ("tests/waits.py", {"tests/e2e/test_page.py"}),
        ("tests/sensor/test_head.py", {"tests/sensor/test_head.py"}),
        ("docs/page.md", {"tests/e2e/test_page.py"}),
        ("README.md", set()),
    ],
)
def test_a_change_asks_for_the_tests_of_its_package_and_of_those_that_import_it(
    checkout: Path, changed: str, selected: set[str]
) -> None:
    assert select_of([changed], root=checkout).files == selected


@pytest.mark.parametrize("changed", ["proto/apidae/v1/data.proto", "requirements/run.lock", "pyproject.toml"])
def test_what_everything_stands_on_asks_for_everything(checkout: Path, changed: str) -> None:
    selection = select_of([changed], root=checkout)
    assert len(selection.files) == 4
    assert selection.has_images and selection.has_kernels and selection.has_fuzzing


def test_only_what_changed_is_fuzzed_built_and_booted() -> None:
    def choose(path: str) -> tuple[bool, bool, bool]:
        chosen = select_of([path])
        return chosen.has_images, chosen.has_kernels, chosen.has_fuzzing

    assert choose("images/sensor/Containerfile") == (True, False, False)
    assert choose("sensor/ebpf/bpf/http1.c") == (False, True, True)
    assert choose("sensor/http/http1/head.py") == (False, False, True)
    assert choose("collector/server/app.py") == (False, False, False)


def test_changes_are_those_since_the_commit_and_those_not_yet_committed(checkout: Path) -> None:
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=checkout, capture_output=True, text=True, check=True)
    assert list_changes("HEAD", checkout) == []
    (checkout / "sensor/head/lines.py").write_text("HEAD = 1\n")
    (checkout / "sensor/head/new.py").write_text("")
    assert list_changes(head.stdout.strip(), checkout) == ["sensor/head/lines.py", "sensor/head/new.py"]


@pytest.mark.parametrize("base", ["", "0123456789abcdef0123456789abcdef01234567", "no-such-branch"])
def test_without_a_commit_to_compare_with_everything_is_selected(checkout: Path, base: str) -> None:
    selection = select(base, root=checkout)
    assert len(selection.files) == 4 and "there is no commit" in selection.reason


def test_the_commit_that_landed_last_is_one_of_this_history(checkout: Path) -> None:
    assert read_landed(checkout) == ""
    assert (ROOT / LANDED_FILE).exists()
    assert len(read_landed()) == 40


def test_each_test_that_is_left_out_belongs_to_a_package() -> None:
    """Else no change would ever ask for it."""
    graph = read_graph()
    own = Path(__file__).relative_to(ROOT).as_posix()
    marked = [path for path in graph.tests if path != own and "mark.full" in (ROOT / path).read_text()]
    assert len(marked) > 20
    assert not [path for path in marked if not graph.tests[path].packages]
    known = {
        name_package(path.relative_to(ROOT).as_posix())
        for path in ROOT.glob("*/**/*.py")
        if "__pycache__" not in path.parts
    }
    for path in marked:
        assert graph.tests[path].packages <= known | {DOCS}, path
