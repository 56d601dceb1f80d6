"""Containerfiles as data: the few instructions that ours use, and an error for any other.

`read_stages` gives what `scripts/images` carries out; the tests hold that nothing is left out.
"""

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path


class ContainerfileError(Exception):
    """An instruction that is not known here; one sentence that names file and line."""


@dataclass(frozen=True, slots=True)
class Run:
    """A shell command in the image."""

    command: str


@dataclass(frozen=True, slots=True)
class Copy:
    """Files of the checkout, or of a stage before, into the image."""

    sources: tuple[str, ...]
    target: str
    stage: str  # Empty: the checkout.


@dataclass(frozen=True, slots=True)
class Change:
    """From here on commands run in another directory."""

    directory: str


@dataclass(slots=True)
class Stage:
    """One image of the file: where it begins, what is done, and how it runs."""

    base: str
    name: str
    steps: list[Run | Copy | Change] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    user: str = "0:0"
    healthcheck: list[str] = field(default_factory=list)
    health_seconds: dict[str, float] = field(default_factory=dict)  # By Docker's names: `Interval`.
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)


def read_stages(path: Path) -> list[Stage]:
    """The stages in order; the last one is the image. Raises ContainerfileError."""
    arguments: dict[str, str] = {}
    stages: list[Stage] = []
    for number, instruction, rest in _list_instructions(path.read_text()):
        if instruction == "ARG":
            name, _, value = rest.partition("=")
            arguments[name] = value
        elif instruction == "FROM":
            base, _, name = re.sub(r"\$\{(\w+)\}", lambda match: arguments[match[1]], rest).partition(" AS ")
            stages.append(Stage(base=base, name=name))
        elif not stages:
            raise ContainerfileError(f"{path.name} line {number}: {instruction} before FROM")
        else:
            _add(stages[-1], instruction, rest, f"{path.name} line {number}")
    return stages


def _list_instructions(text: str) -> list[tuple[int, str, str]]:
    """(line, instruction, rest), lines that go on joined."""
    found: list[tuple[int, str, str]] = []
    pending, start = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        start = start or number
        pending += line.removesuffix("\\").strip() + " "
        if not line.endswith("\\"):
            instruction, _, rest = pending.strip().partition(" ")
            found.append((start, instruction, rest.strip()))
            pending, start = "", 0
    return found


def _add(stage: Stage, instruction: str, rest: str, where: str) -> None:
    match instruction:
        case "RUN":
            stage.steps.append(Run(rest))
        case "WORKDIR":
            stage.steps.append(Change(rest))
        case "COPY":
            words = shlex.split(rest)
            stages = [word.removeprefix("--from=") for word in words if word.startswith("--from=")]
            *sources, target = [word for word in words if not word.startswith("--")]
            if len(stages) + len(sources) + 1 != len(words):
                raise ContainerfileError(f"{where}: COPY has an option that is not known here: {rest}")
            stage.steps.append(Copy(tuple(sources), target, stages[0] if stages else ""))
        case "ENV":
            name, _, value = rest.partition("=")
            stage.environment[name] = value
        case "USER":
            stage.user = rest
        case "HEALTHCHECK":
            options, _, command = rest.partition("CMD ")
            stage.healthcheck = json.loads(command)
            for name, seconds in re.findall(r"--([a-z-]+)=(\d+)s", options):
                stage.health_seconds[name.title().replace("-", "")] = float(seconds)
        case "ENTRYPOINT":
            stage.entrypoint = json.loads(rest)
        case "CMD":
            stage.command = json.loads(rest)
        case _:
            raise ContainerfileError(f"{where}: {instruction} is not known here; add it to scripts/containers")
