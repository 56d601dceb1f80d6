"""A memory cgroup for one program, v1 or v2, so that the kernel's maps and rings count."""

import contextlib
import os
import re
import resource
from collections.abc import Iterator
from pathlib import Path


def make_memory_cgroup() -> Path | None:
    """A memory cgroup of its own; None where none can be made."""
    for base in (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")):
        path = base / f"apidae-bench-{os.getpid()}"
        with contextlib.suppress(OSError):
            path.mkdir()
            if any((path / name).exists() for name in ("memory.usage_in_bytes", "memory.current")):
                return path
            path.rmdir()
    return None


def read_memory(cgroup: Path | None, pid: int) -> int:
    """Bytes charged to the cgroup, without the pages of files that the kernel can take back; else the resident set."""
    if cgroup is not None:
        name = "memory.current" if (cgroup / "memory.current").exists() else "memory.usage_in_bytes"
        stat = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
        idle = int(stat.get("total_inactive_file", stat.get("inactive_file", 0)))
        return int((cgroup / name).read_text()) - idle
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * resource.getpagesize()


@contextlib.contextmanager
def enter(cgroup: Path | None) -> Iterator[None]:
    """This process is in the cgroup meanwhile, so that what its children load is charged there too."""
    own = Path("/proc/self/cgroup").read_text()
    if cgroup is not None:
        (cgroup / "cgroup.procs").write_text(str(os.getpid()))
    try:
        yield
    finally:
        if cgroup is not None:
            is_v1 = (cgroup / "memory.usage_in_bytes").exists()
            match = re.search(r"^\d+:memory:(.*)$" if is_v1 else r"^0::(.*)$", own, re.MULTILINE)
            home = cgroup.parent / (match[1].lstrip("/") if match else "")
            (home / "cgroup.procs").write_text(str(os.getpid()))
