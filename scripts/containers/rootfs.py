"""Root file systems of the images, made from the steps of their Containerfiles without a container builder.

The base is Debian by mmdebstrap, in the place of the Containerfile's base image; every step after it is the very one
that a builder would carry out. Needs root. What is made lies in `.run/images` and is kept until a step or a copied file
changes.
"""

import hashlib
import os
import shlex
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Final

from scripts.compiled import compile_programs
from scripts.containers.containerfile import Change, Copy, Run, Stage, read_stages
from sensor.capture.java.build import JAR, BuildError, build_jar
from sensor.ebpf.compile import SHIPPED_DIRECTORY
from sensor.ebpf.loader import LoadError

ROOT: Final = Path(__file__).parents[2]
IGNORE: Final = ROOT / ".dockerignore"
CONTAINERFILES: Final = ROOT / "images"
DIRECTORY: Final = ROOT / ".run" / "images"
PROGRAMS: Final = DIRECTORY / "programs"
SIDES: Final = ("sensor", "collector")
# What the bases that our Containerfiles may name are to mmdebstrap.
SUITES: Final = {"debian:trixie-slim": "trixie"}  # Whatever the digest: mmdebstrap makes its own.
EMPTY: Final = "scratch"
STEP_SECONDS: Final = 900
# Of this machine: where packages come from, and what proves who they come from.
_PASSED: Final = ("PIP_INDEX_URL", "PIP_DEFAULT_TIMEOUT", "http_proxy", "https_proxy", "no_proxy")
_CERTIFICATES: Final = "/etc/ssl/certs/ca-certificates.crt"


class NotBuiltError(Exception):
    """What it takes to build an image is not here; one sentence with the reason."""


class StepError(Exception):
    """A step of a Containerfile failed; one sentence."""


def build(side: str, *, is_kept: bool = True) -> tuple[Path, Stage]:
    """The root file system of one side's image, and how it runs; the one that was built before where nothing changed,
    unless not `is_kept`. Raises NotBuiltError, StepError."""
    path = CONTAINERFILES / f"{side}.Containerfile"
    stages = read_stages(path)
    root = DIRECTORY / side
    stamp = DIRECTORY / f"{side}.stamp"
    digest = _digest(path, stages)
    if is_kept and root.exists() and stamp.exists() and stamp.read_text() == digest:
        return root, stages[-1]
    if os.geteuid():
        raise NotBuiltError("it takes root to make a root file system: run this as root")
    stamp.unlink(missing_ok=True)
    if side == "sensor":
        _compile_programs()
    made: dict[str, Path] = {}
    for number, stage in enumerate(stages):
        place = root if number == len(stages) - 1 else DIRECTORY / f"{side}-{stage.name}"
        _remove(place)
        if stage.base == EMPTY:
            place.mkdir()
        else:
            _copy_tree(_make_base(stage.base), place)
        _carry_out(stage, place, made)
        made[stage.name] = place
    for name, place in made.items():
        if name:
            _remove(place)
    stamp.write_text(digest)
    return root, stages[-1]


def _compile_programs() -> None:
    """What `scripts/compile` leaves in the checkout, beside it: tests that run meanwhile see no difference."""
    PROGRAMS.mkdir(parents=True, exist_ok=True)
    try:
        list(compile_programs(PROGRAMS))
    except LoadError as error:
        raise NotBuiltError(f"the eBPF programs cannot be compiled here: {error}") from error
    try:
        build_jar(PROGRAMS / JAR.name)
    except BuildError as error:
        raise NotBuiltError(f"the Java agent cannot be built here: {error}") from error


def _make_base(base: str) -> Path:
    suite = SUITES.get(base.partition("@")[0])
    if suite is None:
        raise NotBuiltError(f"the base {base} has no suite in scripts/containers/rootfs.py")
    if shutil.which("mmdebstrap") is None:
        raise NotBuiltError("mmdebstrap is missing: apt-get install mmdebstrap")
    place = DIRECTORY / f"base-{suite}"
    if not place.exists():
        part = place.with_suffix(".part")
        _remove(part)
        DIRECTORY.mkdir(parents=True, exist_ok=True)
        # No documentation but licences, as in the slim image.
        slim = [f'--dpkgopt=path-exclude="/usr/share/{place}/*"' for place in ("doc", "man", "locale")]
        slim.append('--dpkgopt=path-include="/usr/share/doc/*/copyright"')
        try:
            _run(["mmdebstrap", "--quiet", "--variant=minbase", *slim, suite, str(part)], f"the base {base}")
        except StepError as error:
            raise NotBuiltError(f"Debian's packages could not be had: {error}") from error
        part.rename(place)
    return place


def _carry_out(stage: Stage, root: Path, made: dict[str, Path]) -> None:
    directory = "/"
    for step in stage.steps:
        match step:
            case Change():
                directory = step.directory
                (root / directory.lstrip("/")).mkdir(parents=True, exist_ok=True)
            case Copy():
                _copy(step, root, directory, made)
            case Run():
                _run(_enter(root, directory, step.command), step.command)


def _copy(step: Copy, root: Path, directory: str, made: dict[str, Path]) -> None:
    target = root / os.path.join(directory, step.target).lstrip("/")  # noqa: PTH118 - an absolute target replaces.
    for source in step.sources:
        origin = (made[step.stage] if step.stage else ROOT) / source.lstrip("/")
        if origin.is_dir() and step.stage:
            _copy_tree(origin, target)
        elif origin.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.image", JAR.name)
            shutil.copytree(origin, target, ignore=ignored, dirs_exist_ok=True)
            if origin == ROOT / "sensor":
                for program in PROGRAMS.iterdir():
                    place = JAR if program.name == JAR.name else SHIPPED_DIRECTORY / program.name
                    (target / place.relative_to(origin)).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(program, target / place.relative_to(origin))
        else:
            is_directory = step.target.endswith("/") or len(step.sources) > 1
            (target if is_directory else target.parent).mkdir(parents=True, exist_ok=True)
            shutil.copy2(origin, target)


def _copy_tree(origin: Path, target: Path) -> None:
    """With owners, rights, and links as they are: an environment's python is one."""
    target.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", "--reflink=auto", f"{origin}/.", str(target)], check=True)


def _enter(root: Path, directory: str, command: str) -> list[str]:
    """The shell command in that root, with this machine's names, network and certificates, and its own /proc."""
    (root / "run/host").mkdir(parents=True, exist_ok=True)
    for name in ("certificates.crt", "resolv.conf"):
        (root / "run/host" / name).touch()
    (DIRECTORY / "pip").mkdir(exist_ok=True)
    (root / "run/host/pip").mkdir(exist_ok=True)
    there = shlex.quote(str(root))
    mounts = [
        "mount --make-rprivate /",
        f"mount -t proc proc {there}/proc",
        f"mount --rbind /dev {there}/dev",
        f"rm -f {there}/etc/resolv.conf; cp /etc/resolv.conf {there}/etc/resolv.conf",
        f"mount --bind {_CERTIFICATES} {there}/run/host/certificates.crt",
        f"mount --bind {shlex.quote(str(DIRECTORY / 'pip'))} {there}/run/host/pip",
    ]
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "DEBIAN_FRONTEND": "noninteractive",
        "PIP_CERT": "/run/host/certificates.crt",
        "PIP_CACHE_DIR": "/run/host/pip",
        "PIP_ROOT_USER_ACTION": "ignore",
        "SOURCE_DATE_EPOCH": str(read_source_time()),
        **{name: os.environ[name] for name in _PASSED if name in os.environ},
    }
    variables = [f"{name}={value}" for name, value in environment.items()]
    inside = ["chroot", str(root), "env", "-i", *variables, "sh", "-ec", f"cd {shlex.quote(directory)}; {command}"]
    script = "; ".join([*mounts, f"exec {shlex.join(inside)}"])
    return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", script]


@cache
def read_source_time() -> int:
    """When what is copied into images was changed last: seconds of that commit, or SOURCE_DATE_EPOCH."""
    paths = [line[1:].partition("/*")[0] for line in IGNORE.read_text().splitlines() if line.startswith("!")]
    asked = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct", "--", *paths]
    return int(os.environ.get("SOURCE_DATE_EPOCH") or subprocess.check_output(asked, text=True).strip() or 0)


def _run(command: list[str], what: str) -> None:
    log = DIRECTORY / "build.log"
    with log.open("ab") as file:
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, timeout=STEP_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise StepError(f"`{what[:80]}` failed: {error}") from error
    if done.returncode:
        last = log.read_text(errors="replace").strip().splitlines()[-1:]
        raise StepError(f"`{what[:80]}` failed with {done.returncode}, see {log.relative_to(ROOT)}: {''.join(last)}")


def _remove(place: Path) -> None:
    """Nothing of a step stays mounted there: each had a mount namespace of its own."""
    if place.exists():
        shutil.rmtree(place)


def _digest(path: Path, stages: list[Stage]) -> str:
    """Of the steps and of all that they copy from the checkout."""
    digest = hashlib.blake2b(path.read_bytes(), digest_size=16)
    for step in (step for stage in stages for step in stage.steps if isinstance(step, Copy) and not step.stage):
        for source in step.sources:
            origin = ROOT / source
            for file in sorted(origin.rglob("*") if origin.is_dir() else [origin]):
                if file.is_file() and "__pycache__" not in file.parts and file.suffix not in (".image", ".jar"):
                    digest.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    return digest.hexdigest()
