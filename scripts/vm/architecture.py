"""What differs between the machines that can be emulated: this host's architecture, and arm64 with files of its own.

An x86-64 machine has this host's files as its own. The files of an arm64 machine are unpacked from Debian's packages
and from wheels, by name and hash, and nothing of them is run here.
"""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Final

from images.select_lock import list_roots, select
from scripts.vm.package import NoKernelError

ROOT: Final = Path(__file__).parent.parent.parent
_CPUS: Final = ("-smp", str(min(2, os.cpu_count() or 1)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """One kind of machine, by Debian's name."""

    name: str
    emulator: str  # A program of qemu.
    emulator_package: str
    machine: tuple[str, ...]  # Its arguments for the emulator.
    console: str
    python: str  # The command that runs Python with the packages of the tests, in the checkout.
    packages: str  # What PYTHONPATH has in addition.


AMD64: Final = Architecture(
    name="amd64",
    emulator="qemu-system-x86_64",
    emulator_package="qemu-system-x86",
    machine=("-accel", "tcg,thread=multi", "-cpu", "max", *_CPUS),
    console="ttyS0",
    python=".venv/bin/python",
    packages="",
)
ARM64: Final = Architecture(
    name="arm64",
    emulator="qemu-system-aarch64",
    emulator_package="qemu-system-arm",
    # Pointer authentication costs the emulation a third of its speed in its standard form.
    machine=("-M", "virt", "-accel", "tcg,thread=multi", "-cpu", "max,pauth-impdef=on", *_CPUS),
    console="ttyAMA0",
    python="/usr/bin/python3",
    packages=":/opt/packages",
)
ARCHITECTURES: Final = {each.name: each for each in (AMD64, ARM64)}

# Programs of the tests, and what the sensor needs of the distribution.
_DEBIAN: Final = (
    *("dash", "coreutils", "libc-bin", "util-linux", "mount", "iproute2", "procps", "busybox-static"),
    *("python3", "python3-bpfcc", "nginx-light"),
)
_SUITE: Final = "trixie"
_TESTS: Final = frozenset({"pytest", "hypothesis", "httpx"})
_PLATFORMS: Final = tuple(
    f"{policy}_aarch64" for policy in ("manylinux2014", *(f"manylinux_2_{minor}" for minor in range(17, 42)))
)
_ACCOUNTS: Final = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/:/bin/false\nnobody:x:65534:65534::/:/bin/false\n",
    "etc/group": "root:x:0:\nwww-data:x:33:\nnogroup:x:65534:\n",
}


def prepare_root(architecture: Architecture, directory: Path) -> Path:
    """The directory that is `/` of the machine: this host's, or one below `directory` that is made when it is not
    there. Raises NoKernelError where it cannot be made."""
    if architecture is AMD64:
        return Path("/")
    lock = select_lock()
    wanted = json.dumps([_DEBIAN, _SUITE, blake2b(lock.encode()).hexdigest()])
    root, stamp = directory / "root", directory / "root.made"
    if stamp.exists() and stamp.read_text() == wanted:
        return root
    shutil.rmtree(root, ignore_errors=True)
    directory.mkdir(parents=True, exist_ok=True)
    _unpack_debian(architecture, root)
    _unpack_wheels(lock, directory / "packages.lock", root / "opt/packages")
    stamp.write_text(wanted)
    return root


def select_lock() -> str:
    """Names and hashes of the packages that run the tests of the sensor."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return select((ROOT / "requirements/test.lock").read_text(), list_roots(project, "sensor") | _TESTS)


def _unpack_debian(architecture: Architecture, root: Path) -> None:
    if shutil.which("mmdebstrap") is None:
        raise NoKernelError("mmdebstrap is missing: apt-get install mmdebstrap")
    _run(
        [
            *("mmdebstrap", "--quiet", "--variant=extract", f"--architectures={architecture.name}"),
            *("--aptopt=APT::Sandbox::User root", f"--include={','.join(_DEBIAN)}", _SUITE, str(root)),
        ]
    )
    # What scripts of the packages would have made.
    for name in ("bin", "sbin", "lib"):
        if not (root / name).exists():
            (root / name).symlink_to(f"usr/{name}")
    for name, text in _ACCOUNTS.items():
        (root / name).write_text(text)
    for name in ("proc", "sys", "run", "root", "opt", str(ROOT.relative_to("/"))):
        (root / name).mkdir(parents=True, exist_ok=True)


def _unpack_wheels(lock: str, path: Path, target: Path) -> None:
    path.write_text(lock)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    platforms = [part for platform in _PLATFORMS for part in ("--platform", platform)]
    _run(
        [
            *(str(ROOT / ".venv/bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--only-binary=:all:", "--require-hashes", "--python-version", version, *platforms),
            *("--target", str(target), "-r", str(path)),
        ]
    )


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise NoKernelError(f"{command[0]} failed ({error.returncode}): {last}") from error
