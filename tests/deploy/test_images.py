"""What holds of the images without building them; `scripts/images` builds them and runs the programs."""

import fnmatch
import importlib.util
import json
import re
import runpy
import tomllib
from collections.abc import Callable
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from scripts.containers.containerfile import ContainerfileError, Copy, Run, read_stages
from scripts.containers.rootfs import CONTAINERFILES, ROOT, SIDES, SUITES
from scripts.helm.settings_schema import CHART

LOCK = (ROOT / "requirements/run.lock").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
_lock = runpy.run_path(str(CONTAINERFILES / "select_lock.py"))
_sbom = runpy.run_path(str(CONTAINERFILES / "write_sbom.py"))
select: Callable[[str, set[str]], str] = _lock["select"]
list_roots: Callable[[dict[str, Any], str], set[str]] = _lock["list_roots"]
canonical: Callable[[str], str] = _lock["canonical"]


def names_of(part: str) -> set[str]:
    return {canonical(name) for name in re.findall(r"^([A-Za-z0-9._-]+)==", part, re.MULTILINE)}


@pytest.mark.parametrize("side", SIDES)
def test_containerfiles_keep_to_what_is_carried_out_here(side: str) -> None:
    stages = read_stages(CONTAINERFILES / f"{side}.Containerfile")
    assert [stage.name for stage in stages] == ["build", ""]
    for stage in stages:
        base, _, digest = stage.base.partition("@")
        assert base in SUITES and re.fullmatch(r"sha256:[0-9a-f]{64}", digest)
    ignore = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for step in (step for stage in stages for step in stage.steps if isinstance(step, Copy) and not step.stage):
        for source in step.sources:
            assert (ROOT / source).exists()
            assert any(fnmatch.fnmatch(source, rule[1:]) for rule in ignore), f".dockerignore leaves out {source}"
    image = stages[-1]
    assert image.entrypoint == ["/opt/apidae/bin/apidae"] and image.command == [side]
    python, option, module = image.healthcheck
    assert (python, option) == ("/opt/apidae/bin/python", "-m") and importlib.util.find_spec(module)
    # The package lists go in the step that fetched them, or they stay in a layer.
    for step in image.steps:
        if isinstance(step, Run) and "apt-get update" in step.command:
            assert step.command.endswith("rm -rf /var/lib/apt/lists/*")


def test_the_chart_runs_images_as_their_users() -> None:
    users = {side: read_stages(CONTAINERFILES / f"{side}.Containerfile")[-1].user for side in SIDES}
    assert users["sensor"] == "0:0"
    uid, _, gid = users["collector"].partition(":")
    template = (CHART / "templates" / "collector.yaml").read_text()
    assert f"runAsUser: {uid}\n" in template and f"runAsGroup: {gid}\n" in template and int(uid) > 0


def test_the_collectors_user_has_a_name() -> None:
    image = read_stages(CONTAINERFILES / "collector.Containerfile")[-1]
    uid, _, gid = image.user.partition(":")
    commands = [step.command for step in image.steps if isinstance(step, Run)]
    assert any(f"groupadd --gid {gid} " in text and f"useradd --uid {uid} --gid {gid} " in text for text in commands)


def test_unknown_instructions_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.Containerfile"
    path.write_text("FROM debian:trixie-slim\n# a comment\nADD --checksum=x https://example.org /x\n")
    with pytest.raises(ContainerfileError, match=r"x\.Containerfile line 3: ADD is not known here"):
        read_stages(path)


def test_lines_that_go_on_are_one_command(tmp_path: Path) -> None:
    path = tmp_path / "x.Containerfile"
    path.write_text(
        "ARG B=debian:trixie-slim\nFROM ${B} AS one\nRUN a && \\\n    b\nFROM ${B}\nCOPY --from=one /a /b\n"
    )
    one, two = read_stages(path)
    assert one.steps == [Run("a && b")] and one.base == "debian:trixie-slim"
    assert two.steps == [Copy(("/a",), "/b", "one")]


@pytest.mark.parametrize("side", [*SIDES, "build"])
def test_the_part_of_the_lock_is_whole(side: str) -> None:
    part = select(LOCK, list_roots(PROJECT, side))
    chosen = names_of(part)
    assert part.count("--hash=sha256:") >= len(chosen)
    for name in chosen:
        for text in requires(name) or []:
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                assert canonical(needed.name) in chosen, f"{name} needs {needed.name}, which the {side} has not"


def test_sides_have_no_more_than_they_need() -> None:
    sensor, collector = (names_of(select(LOCK, list_roots(PROJECT, side))) for side in SIDES)
    assert "siphash24" in sensor and not sensor & {"chdb-core", "pandas", "pyarrow", "fastapi"}
    assert "chdb-core" in collector and not collector & {"capstone", "python-stdnum"}
    build = names_of(select(LOCK, list_roots(PROJECT, "build")))
    assert sensor | collector | build | {"editables"} >= names_of(LOCK)


def test_a_side_that_is_not_locked_is_refused() -> None:
    with pytest.raises(SystemExit, match="does not hold nowhere; run scripts/lock"):
        select(LOCK, {"nowhere"})


def test_the_bill_of_materials_lists_what_is_installed() -> None:
    status = (
        "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.41-12+deb13u4\n"
        "Description: C library\n of the system: here\n\n"
        "Package: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1\n"
    )
    document = json.loads(json.dumps(_sbom["build"]("apidae-sensor", status)))
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    listed = {component["purl"] for component in document["components"]}
    assert "pkg:deb/debian/libc6@2.41-12%2Bdeb13u4?arch=amd64" in listed
    assert not any("gone" in purl for purl in listed)
    assert any(purl.startswith("pkg:pypi/pydantic@") for purl in listed)
    assert len({component["bom-ref"] for component in document["components"]}) == len(listed)


def test_capabilities_by_hand_are_those_of_the_chart() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    told = re.findall(r"--cap-add (\w+)", (CONTAINERFILES / "README.md").read_text())
    assert told == values["sensor"]["capabilities"]
