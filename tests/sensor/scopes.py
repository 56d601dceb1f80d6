"""What sensors under test watch."""

from pathlib import Path

from sensor.enrich.cgroup_tree import WHOLE_HOST, CgroupScope

MOUNT = Path("/sys/fs/cgroup")


def watch_host(mount: Path | None = MOUNT) -> CgroupScope:
    """The whole host, whose cgroup v2 is mounted there; None: it has none."""
    if mount is None:
        return WHOLE_HOST
    return CgroupScope(mount=mount, directory=mount, cgroup_id=1, is_whole_host=True)


def watch_cgroup(directory: Path, mount: Path) -> CgroupScope:
    """One cgroup of a mount; a directory that is not there has the number 7."""
    number = directory.stat().st_ino if directory.exists() else 7
    return CgroupScope(mount=mount, directory=directory, cgroup_id=number, is_whole_host=False)
