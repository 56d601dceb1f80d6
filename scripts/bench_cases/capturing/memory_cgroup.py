"""A memory cgroup for one program, v1 or v2, so that the kernel's maps and rings count."""

import contextlib
import itertools
import os
import re
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Final

# By what each version calls it, the first that is there.
_LIMIT: Final = ("memory.max", "memory.limit_in_bytes")
_PEAK: Final = ("memory.peak", "memory.max_usage_in_bytes")
_EVENTS: Final = ("memory.events", "memory.oom_control")
_numbers = itertools.count(1)


def make_memory_cgroup(limit_bytes: int = 0) -> Path | None:
    """A memory cgroup of its own; None where none can be made. `limit_bytes`: as a container's limit; 0: none."""
    for base in (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")):
        path = base / f"apidae-bench-{os.getpid()}-{next(_numbers)}"
        with contextlib.suppress(OSError):
            path.mkdir()
            if any((path / name).exists() for name in ("memory.usage_in_bytes", "memory.current")):
                if limit_bytes:
                    _find(path, _LIMIT).write_text(str(limit_bytes))
                return path
            path.rmdir()
    return None


def read_memory(cgroup: Path | None, pid: int) -> int:
    """Bytes charged to the cgroup, without the pages of files that the kernel can take back; else the resident set."""
    if cgroup is not None:
        name = "memory.current" if (cgroup / "memory.current").exists() else "memory.usage_in_bytes"
        return int((cgroup / name).read_text()) - _read_stat(cgroup, "inactive_file")
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * resource.getpagesize()


def read_file_bytes(cgroup: Path) -> int:
    """Of these, pages of files in use: who reads a library first is charged with it, whoever uses it later."""
    return _read_stat(cgroup, "active_file")


def _read_stat(cgroup: Path, name: str) -> int:
    stat = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
    return int(stat.get(f"total_{name}", stat.get(name, 0)))


def read_peak(cgroup: Path) -> int:
    """Most bytes that were charged to it, pages of files included: what the limit is held against."""
    return int(_find(cgroup, _PEAK).read_text())


def count_kills(cgroup: Path) -> int:
    """Processes in it that the kernel has killed for want of memory."""
    counts = dict(line.split() for line in _find(cgroup, _EVENTS).read_text().splitlines())
    return int(counts["oom_kill"])


def _find(cgroup: Path, names: tuple[str, ...]) -> Path:
    return next(path for name in names if (path := cgroup / name).exists())


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
