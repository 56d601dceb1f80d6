"""Every command of Apidae that a page shows, in a block or in a sentence, is one: it exists, and takes these options
and values. Nothing runs here."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from common.main import build_app
from tests.documented import FENCE, SHELL, list_blocks
from tests.test_docs import ROOT, list_pages

_SPAN = re.compile(r"`([^`]+)`")
_PREFIX = re.compile(r"^(?:[A-Z_]+=\S* )*(?:sudo (?:-u apidae )?)?(?:\.venv/bin/)?(?=apidae )")
# What the shell does with a command.
_SHELL = {"|", ">", "<", "&&", "&", "2>", ">>"}
# History, and what is made of the commands.
_NOT_READ = {"CHANGELOG.md", "UPGRADING.md", "cli.md"}
_REFUSALS = typer.BadParameter.__mro__[2]  # Of the library below, which typer does not name.
_PLACEHOLDER = re.compile(r"'[A-Z]+' is not one of")
PAGES = [page for page in list_pages() if page.name not in _NOT_READ]
APP = typer.main.get_command(build_app())
COMMANDS_MIN = 500


def list_commands(page: Path) -> Iterator[list[str]]:
    """Words behind `apidae` of each command."""
    lines = [line for block in list_blocks(page) if block.language in SHELL for line in block.commands]
    lines += [" ".join(span.split()) for span in _SPAN.findall(FENCE.sub("", page.read_text()))]
    for line in lines:
        command = _PREFIX.sub("", line)
        # `[--raw]` is a synopsis and no command.
        if command.startswith("apidae ") and "[--" not in command:
            words = shlex.split(command, comments=True)[1:]
            yield words[: next((place for place, word in enumerate(words) if word in _SHELL), None)]


def check_command(words: list[str]) -> str:
    """Empty, or what is wrong with it. A command without a word behind it is only named, and has to exist."""
    command: Any = APP
    context = typer.Context(command)
    rest = list(words)
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        name = rest.pop(0)
        command = command.get_command(context, name)
        if command is None:
            return f"there is no command {name}"
    if not rest or "--help" in rest:
        return ""
    for word in rest:
        if re.fullmatch(r"[\w-]+\.(?:yaml|json|pcap|toml)", word):
            Path(word).touch()  # Some commands want the file.
    try:
        command.make_context(" ".join(words), rest, parent=context)
    except _REFUSALS as error:
        message = str(error.format_message())
        return "" if _PLACEHOLDER.search(message) else message
    return ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_a_page_exist_and_take_their_options(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    wrong = {" ".join(words): why for words in list_commands(page) if (why := check_command(words))}
    assert not wrong


def test_most_pages_are_read() -> None:
    assert sum(len(list(list_commands(page))) for page in PAGES) > COMMANDS_MIN


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("get endpoint", "there is no command endpoint"),
        ("get endpoints --sorted risk", "No such option: --sorted"),
        ("get endpoints --sort wrong", "wrong"),
        ("silence --hours 24", "Missing argument"),
    ],
)
def test_a_wrong_command_is_found(line: str, told: str) -> None:
    assert told in check_command(line.split())
