"""What pages of the documentation say to run does run, on a collector of its own: each command of docs/reference/routes
is answered as documented, and those of the pages of alert kinds and finding rules succeed."""

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from common.main import build_app
from scripts.reference.kinds import ALERTS, FINDINGS
from scripts.reference.routes import FOLDER, is_up_to_date
from tests.console.routes import run_commands
from tests.console.seeded import SeededCollector, open_seeded

pytestmark = [pytest.mark.store, pytest.mark.full("collector.api", "collector.cli")]


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SeededCollector, Path]]:
    """A collector that the commands may change, and its directory."""
    directory = tmp_path_factory.mktemp("routes")
    with open_seeded(directory) as collector:
        yield collector, directory


def test_every_route_is_answered_as_documented(changed: tuple[SeededCollector, Path]) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl here")
    collector, directory = changed
    pages = run_commands(collector, str(directory))
    kept = {path: path.read_text() for path in FOLDER.glob("*.md")}
    assert kept.keys() == pages.keys(), "run scripts/generate and commit"
    wrong = [path.name for path, text in pages.items() if not is_up_to_date(kept[path], text)]
    assert not wrong, "run scripts/generate and commit"


# All of these pages have their commands of one place.
@pytest.mark.parametrize(
    ("page", "asked"),
    [
        (ALERTS / "volume_pair.md", "alerts?kind=volume_pair&limit=1"),
        (ALERTS / "sensor_silent.md", "alerts?kind=sensor_silent&limit=1"),
        (FINDINGS / "jwt_no_expiry.md", "findings?rule=jwt_no_expiry&limit=1"),
    ],
    ids=lambda one: getattr(one, "stem", ""),
)
def test_commands_of_a_kind_and_a_rule_run(page: Path, asked: str, changed: tuple[SeededCollector, Path]) -> None:
    collector, _ = changed
    headers = {"Authorization": f"Bearer {collector.token}"}
    (found,) = httpx.get(f"{collector.address}/api/v1/{asked}", headers=headers).json()["items"]
    block = re.search(r"^```\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    assert block is not None
    environment = {"APIDAE_URL": collector.address, "APIDAE_TOKEN": collector.token}
    for line in block[1].splitlines():
        words = shlex.split(line.replace(" ID", f" {found['id']}"))[1:]
        done = CliRunner().invoke(build_app(words), words, env=environment)
        assert done.exit_code == 0, f"{line}: {done.output}"


def test_a_page_is_not_up_to_date_with_another_field_or_text() -> None:
    page = '# One\n\n```json\n{"a": [{"b": 1}], "c": null}\n```\n'
    assert is_up_to_date(page, page.replace("1", "2").replace("null", '{"d": 1}'))
    assert not is_up_to_date(page, page.replace('"b"', '"e"'))
    assert not is_up_to_date(page, page.replace("One", "Two"))
    assert not is_up_to_date(page, page.replace("1", "[1]"))
