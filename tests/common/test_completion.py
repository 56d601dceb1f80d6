"""Completion in real shells: what they offer after some words of a command line."""

import shutil
import subprocess
from pathlib import Path

import pytest
import typer

from common.completion import Place, Shell, list_places, write_script
from common.main import build_app

QUESTIONS = [
    (("",), {"get", "describe", "collector", "sensor", "completion"}),
    (("get", "end"), {"endpoints"}),
    (("get", "endpoints", "--so"), {"--sort"}),
    (("get", "endpoints", "--tier", ""), {"confirmed", "unconfirmed", "probed"}),
    (("get", "endpoints", "--sort", "calls", "--ord"), {"--order"}),
    (("get", "alerts", "-o", ""), {"table", "wide", "json", "yaml", "csv", "name"}),
    (("set", "sensitivity", "p"), {"paranoid"}),
    (("completion", ""), {"bash", "zsh", "fish"}),
]
BASH = """
source {script}
COMP_WORDS=(apidae {words}); COMP_CWORD=$((${{#COMP_WORDS[@]}}-1)); _apidae; printf '%s\\n' "${{COMPREPLY[@]}}"
"""
# The widget of a completion needs a line editor; the function alone needs what it calls.
ZSH = """
compadd() {{ shift; local one; for one; [[ $one == {last}* ]] && print -r -- $one }}
_describe() {{ local one; for one in ${{(P)2}}; [[ ${{one%%:*}} == {last}* ]] && print -r -- ${{one%%:*}} }}
_files() {{ }}
compdef() {{ }}
source {script}
words=(apidae {words}); CURRENT=$#words; _apidae
"""


@pytest.fixture(scope="module")
def places() -> list[Place]:
    return list(list_places(typer.main.get_command(build_app())))


def offer(shell: Shell, places: list[Place], directory: Path, words: tuple[str, ...]) -> set[str]:
    """What the shell offers for the last of the words."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    script = directory / f"apidae.{shell}"
    script.write_text(write_script(shell, places))
    quoted = " ".join(f"'{word}'" for word in words)
    if shell is Shell.FISH:
        program = f"source {script}; complete -C'apidae {' '.join(words)}'"
        command = [shell.value, "--no-config", "-c", program]
    else:
        text = (BASH if shell is Shell.BASH else ZSH).format(script=script, words=quoted, last=words[-1])
        command = [shell.value, *(("-f",) if shell is Shell.ZSH else ("--norc",)), "-c", text]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=directory, check=False)
    assert not done.stderr, done.stderr
    return {line.partition("\t")[0] for line in done.stdout.split("\n") if line}


@pytest.mark.parametrize("shell", list(Shell))
@pytest.mark.parametrize(("words", "offered"), QUESTIONS)
def test_a_shell_offers_commands_options_and_values(
    places: list[Place], tmp_path: Path, shell: Shell, words: tuple[str, ...], offered: set[str]
) -> None:
    # fish offers what holds the letters anywhere, too.
    found = {one for one in offer(shell, places, tmp_path, words) if one.startswith(words[-1])}
    assert offered <= found
    assert offered == found or words == ("",)


def test_every_command_and_option_has_help_and_no_markup(places: list[Place]) -> None:
    for place in places:
        assert all(text for word, text in place.words.items()), place
