"""A server of rustls, built from servers/rustls with the crates of Debian's packages, once, into `.run/rustls`."""

import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from scripts.vm.images import is_emulated
from tests.e2e.application import HERE, find_or_skip

DIRECTORY: Final = Path(__file__).parents[2] / ".run" / "rustls"
CRATES: Final = Path("/usr/share/cargo/registry")
PACKAGES: Final = "librust-tokio-rustls-dev librust-tokio-dev librust-rustls-pemfile-dev"
BUILD_SECONDS: Final = 600.0  # The first time: 40 CPU-s and more.


def build_rustls_server() -> Path:
    """The program, with its symbols, as cargo leaves them. Skips the test where it cannot be built."""
    program = DIRECTORY / "target" / "release" / "app"
    if is_emulated():  # An emulated machine, where cargo would take an hour.
        if not program.exists():
            pytest.skip("the server of rustls is built outside of the machine: run tests/bpf/test_tls.py there first")
        return program
    cargo = find_or_skip("cargo", "cargo")
    if not any(CRATES.glob("tokio-rustls-0.26*")):
        pytest.skip(f"rustls is not installed: apt-get install {PACKAGES}")
    source = DIRECTORY / "source"
    shutil.copytree(HERE / "rustls", source, dirs_exist_ok=True)
    sources = ('source.crates-io.replace-with="debian"', f'source.debian.directory="{CRATES}"')
    command = [cargo, "build", "--release", "--offline", "--quiet", "--target-dir", str(DIRECTORY / "target")]
    for one in sources:
        command += ["--config", one]
    subprocess.run(command, check=True, cwd=source, timeout=BUILD_SECONDS)
    return program
