"""What holds of the images without building them; `scripts/images` builds them and runs the programs."""

import fnmatch
import importlib.util
import json
import re
import runpy
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from scripts.containers.containerfile import ContainerfileError, Copy, Run, read_stages
from scripts.containers.rootfs import CONTAINERFILES, EMPTY, ROOT, SIDES, SUITES
from scripts.helm.settings_schema import CHART
from sensor.capture.java.build import JAR

LOCK = (ROOT / "requirements/run.lock").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
_slim = runpy.run_path(str(CONTAINERFILES / "slim.py"))
_lock = runpy.run_path(str(CONTAINERFILES / "select_lock.py"))
_sbom = runpy.run_path(str(CONTAINERFILES / "write_sbom.py"))
select: Callable[[str, set[str]], str] = _lock["select"]
list_roots: Callable[[dict[str, Any], str], set[str]] = _lock["list_roots"]
canonical: Callable[[str], str] = _lock["canonical"]
UNUSED: frozenset[str] = _lock["UNUSED"]


def names_of(part: str) -> set[str]:
    return {canonical(name) for name in re.findall(r"^([A-Za-z0-9._-]+)==", part, re.MULTILINE)}


@pytest.mark.parametrize("side", SIDES)
def test_containerfiles_keep_to_what_is_carried_out_here(side: str) -> None:
    stages = read_stages(CONTAINERFILES / f"{side}.Containerfile")
    assert [stage.name for stage in stages] == ["build", "system", ""]
    for stage in stages[:-1]:
        base, _, digest = stage.base.partition("@")
        assert base in SUITES and re.fullmatch(r"sha256:[0-9a-f]{64}", digest)
    assert stages[-1].base == EMPTY, "what a stage below took out would still be in a layer"
    ignore = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for step in (step for stage in stages for step in stage.steps if isinstance(step, Copy) and not step.stage):
        for source in step.sources:
            assert (ROOT / source).exists()
            assert any(fnmatch.fnmatch(source, rule[1:]) for rule in ignore), f".dockerignore leaves out {source}"
    image = stages[-1]
    assert image.entrypoint == ["/opt/apidae/bin/apidae"] and image.command == [side]
    python, option, module = image.healthcheck
    assert (python, option) == ("/opt/apidae/bin/python", "-m") and importlib.util.find_spec(module)


def test_the_chart_runs_images_as_their_users() -> None:
    users = {side: read_stages(CONTAINERFILES / f"{side}.Containerfile")[-1].user for side in SIDES}
    assert users["sensor"] == "0:0"
    uid, _, gid = users["collector"].partition(":")
    template = (CHART / "templates" / "_collector.tpl").read_text()
    assert f"runAsUser: {uid}\n" in template and f"runAsGroup: {gid}\n" in template and int(uid) > 0


def test_the_collectors_user_has_a_name() -> None:
    _, system, image = read_stages(CONTAINERFILES / "collector.Containerfile")
    uid, _, gid = image.user.partition(":")
    commands = [step.command for step in system.steps if isinstance(step, Run)]
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
            is_needed = needed.marker is None or needed.marker.evaluate({"extra": ""})
            if is_needed and canonical(needed.name) not in UNUSED:
                assert canonical(needed.name) in chosen, f"{name} needs {needed.name}, which the {side} has not"


def test_sides_have_no_more_than_they_need() -> None:
    sensor, collector = (names_of(select(LOCK, list_roots(PROJECT, side))) for side in SIDES)
    assert "siphash24" in sensor and not sensor & {"chdb-core", "pandas", "pyarrow", "fastapi"}
    assert "chdb-core" in collector and not collector & {"capstone", "python-stdnum"}
    build = names_of(select(LOCK, list_roots(PROJECT, "build")))
    assert not collector & {"pandas", "python-dateutil"} and "pyarrow" in collector
    assert sensor | collector | build | {"editables", "pandas", "python-dateutil", "tzdata"} >= names_of(LOCK)


def test_a_side_that_is_not_locked_is_refused() -> None:
    with pytest.raises(SystemExit, match="does not hold nowhere; run scripts/lock"):
        select(LOCK, {"nowhere"})


def test_the_bill_of_materials_lists_what_is_installed() -> None:
    status = (
        "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.41-12+deb13u4\n"
        "Description: C library\n of the system: here\n\n"
        "Package: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1\n"
    )
    document = json.loads(json.dumps(_sbom["build"]("apidae-sensor", status, 1_700_000_000)))
    assert (document["spdxVersion"], document["dataLicense"]) == ("SPDX-2.3", "CC0-1.0")
    assert document["creationInfo"]["created"] == "2023-11-14T22:13:20Z"
    packages = {package["SPDXID"]: package for package in document["packages"]}
    assert len(packages) == len(document["packages"])
    assert all(re.fullmatch(r"SPDXRef-[A-Za-z0-9.-]+", identifier) for identifier in packages)
    listed = {package["externalRefs"][0]["referenceLocator"] for package in packages.values()}
    assert "pkg:deb/debian/libc6@2.41-12%2Bdeb13u4?arch=amd64" in listed
    assert not any("gone" in purl for purl in listed)
    assert any(purl.startswith("pkg:pypi/pydantic@") for purl in listed)
    # Each package once: described, or in the image.
    relations = [(entry["relationshipType"], entry["relatedSpdxElement"]) for entry in document["relationships"]]
    assert relations[0] == ("DESCRIBES", "SPDXRef-image-apidae-sensor")
    assert ("CONTAINS", "SPDXRef-deb-libc6") in relations
    assert sorted(target for _, target in relations) == sorted(packages)
    # The same image has the same name, and another has another.
    other = _sbom["build"]("apidae-sensor", status.replace("+deb13u4", "+deb13u5"), 1_700_000_000)
    assert other["documentNamespace"] != document["documentNamespace"]


def test_capabilities_by_hand_are_those_of_the_chart() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    told = re.findall(r"--cap-add (\w+)", (CONTAINERFILES / "README.md").read_text())
    assert told == values["sensor"]["capabilities"]


def test_the_documented_command_copies_the_java_agent_out_of_the_image() -> None:
    (command,) = re.findall(r'`sh -c "([^"]*)"`', (ROOT / "docs/use/tls.md").read_text())
    program, origin, _, _ = command.split()
    assert program in _slim["SHELL"].split()
    assert origin == f"/opt/apidae/lib/{_slim['PYTHON'].rpartition('/')[2]}/site-packages/{JAR.relative_to(ROOT)}"
    steps = [
        step.command for step in read_stages(CONTAINERFILES / "sensor.Containerfile")[0].steps if isinstance(step, Run)
    ]
    assert any(step.startswith(f"ls {JAR.relative_to(ROOT)} ||") for step in steps), "an image without it is not built"


def test_images_keep_what_their_packages_depend_on() -> None:
    status = "\n\n".join(
        f"Package: {name}\nStatus: install ok {state}\nDepends: {depends}\nDescription: x\n Depends: no"
        for name, state, depends in (
            ("python3", "installed", "python3.13 (>= 3.13.3-1~), libssl3t64:any | libssl4"),
            ("python3.13", "installed", "tzdata, perl"),
            ("libssl3t64", "installed", "libc6 (>= 2.38), debconf (>= 0.5) | debconf-2.0"),
            ("libc6", "installed", ""),
            ("tzdata", "deinstalled", ""),
            ("debconf", "installed", "perl-base"),
            ("apt", "installed", "libc6"),
        )
    )
    packages = _slim["read_packages"](status)
    assert _slim["find_needed"](packages, ["python3"], ["debconf"]) == {"python3", "python3.13", "libssl3t64", "libc6"}
    with pytest.raises(SystemExit, match="not installed: busybox"):
        _slim["find_needed"](packages, ["busybox"], [])


def test_wheels_lose_what_no_program_imports(tmp_path: Path) -> None:
    library = b"\x7fELF of one library"
    files = {
        "numpy/__init__.py": b"",
        "numpy/__init__.pyi": b"",
        "numpy/tests/test_x.py": b"",
        "numpy/testing/__init__.py": b"",
        "pyarrow/libarrow_flight.so.2600": library,
        "pygments/lexers/__init__.py": b"",
        "pygments/lexers/_mapping.py": b"",
        "pygments/lexers/ada.py": b"",
        "collector/__init__.py": b"",
        "sensor/__init__.py": b"x = {'a', 'b'}\n",
        "sensor/ebpf/bpf/walk.c": b"",
        "sensor/ebpf/bpf/include/linux/bpf.h": b"",
    }
    for path, content in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    _slim["slim_wheels"](tmp_path, "collector")
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert {path for path in left if not path.endswith(".pyc")} == {
        "numpy/__init__.py",
        "numpy/testing/__init__.py",
        "pygments/lexers/__init__.py",
        "pygments/lexers/_mapping.py",
        "sensor/__init__.py",
        # The sensor compares these with the programs compiled of them.
        "sensor/ebpf/bpf/walk.c",
        "sensor/ebpf/bpf/include/linux/bpf.h",
    }
    compiled = (tmp_path / f"sensor/__pycache__/__init__.{sys.implementation.cache_tag}.pyc").read_bytes()
    # PEP 552: by hash, unchecked, so no time of the build is in it and none is compared.
    assert compiled[4:8] == (1).to_bytes(4, "little")


def test_libraries_under_three_names_are_one(tmp_path: Path) -> None:
    for name in ("liba.so", "liba.so.2", "liba.so.2.1", "libb.so"):
        (tmp_path / name).write_bytes(b"a" if "liba" in name else b"b")
    _slim["link_copies"](sorted(tmp_path.iterdir()))
    assert [path.is_symlink() for path in sorted(tmp_path.iterdir())] == [False, True, True, False]
    assert (tmp_path / "liba.so.2.1").read_bytes() == b"a"


def test_passwords_have_no_day_of_the_build(tmp_path: Path) -> None:
    shadow = tmp_path / "shadow"
    shadow.write_text("root:*:20787:0:99999:7:::\napidae:!:20788::::::\n")
    _slim["forget_dates"](shadow)
    assert shadow.read_text() == "root:*::0:99999:7:::\napidae:!:::::::\n"
