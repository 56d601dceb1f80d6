"""BPF objects: which a process holds, and which of some are still in the kernel."""

import contextlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

Objects = frozenset[tuple[str, int]]  # (link, prog or map; id)
KINDS = ("link", "prog", "map")
_HELD = re.compile(r"^(link|prog|map)_id:\s*(\d+)$", re.MULTILINE)


def list_held(pid: int) -> Objects:
    """What the process has open, by /proc: nothing is opened for it. Empty where the process is gone."""
    found: set[tuple[str, int]] = set()
    with contextlib.suppress(OSError):
        for path in Path(f"/proc/{pid}/fdinfo").iterdir():
            with contextlib.suppress(OSError):
                found |= {(kind, int(number)) for kind, number in _HELD.findall(path.read_text())}
    return frozenset(found)


def find_bpftool() -> str | None:
    """Its path. Ubuntu's wrapper looks for the running kernel's own, any other serves too."""
    packaged = sorted(Path("/usr/lib/linux-tools").glob("*/bpftool"))
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    return str(packaged[-1]) if packaged else shutil.which("bpftool", path=path)


def list_ids(bpftool: str, kind: str) -> frozenset[int]:
    """Ids of all objects of a kind on the host.

    Not to be asked again and again while a sensor dies: bpftool opens each map it lists, and those of each program;
    doing so while the kernel empties a program array queues that work twice but takes it back once
    (kernel/bpf/arraymap.c, prog_array_map_clear), and the map stays until the next boot: seen on 6.18.
    """
    output = subprocess.run([bpftool, "-j", kind, "list"], check=True, capture_output=True).stdout
    return frozenset(item["id"] for item in json.loads(output or b"[]") if isinstance(item, dict) and "id" in item)


def list_left(bpftool: str, objects: Objects) -> Objects:
    """Those of `objects` that are still there."""
    left = {kind: list_ids(bpftool, kind) for kind in KINDS}
    return frozenset((kind, number) for kind, number in objects if number in left[kind])
