"""Whether one sensor can take over what another one holds: the digest of all that both must have in common.

That is the kernel side (sources, build constants, kernel, compiler, whether it can enforce), the cgroup it is attached
to, and the modules whose objects make up the state that passes (sensor.kernel.state), together with the Python and
msgspec that write them.
"""

import hashlib
import os
import sys
from pathlib import Path
from typing import Final

import msgspec

from sensor.kernel.compile import build_http1
from sensor.kernel.image_cache import make_digest
from sensor.kernel.loader import RECORDS_BYTES

_ROOT: Final = Path(__file__).resolve().parent.parent
# Everything whose objects pass, and what reads and writes them.
SOURCES: Final = ("protocols", "reassembly", "streams", "kernel", "exchange.py", "upgrades.py", "calls.py", "coverage")


def make_lineage(*, cgroup_path: Path, ring_bytes: int, is_root_cgroup: bool, is_enforcing: bool) -> str:
    """Of this program and these settings. Raises OSError where the cgroup is not there."""
    page = os.sysconf("SC_PAGE_SIZE")
    cgroup = cgroup_path.stat()
    digest = hashlib.blake2b(digest_size=16)
    digest.update(make_digest(build_http1(ring_bytes // page, RECORDS_BYTES // page, is_root_cgroup)).encode())
    digest.update(f" {cgroup.st_dev} {cgroup.st_ino} {is_enforcing} {sys.version} {msgspec.__version__}".encode())
    for path in sorted(path for name in SOURCES for path in _list_sources(_ROOT / name)):
        digest.update(str(path.relative_to(_ROOT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _list_sources(path: Path) -> list[Path]:
    return [path] if path.suffix else list(path.rglob("*.py"))
