"""The index of cgroup ids, on a plain directory: inode numbers are the ids; no handle can be opened, so it walks."""

import os
from pathlib import Path

import pytest

from sensor.enrich.cgroup_tree import KEEP_SECONDS, MAX_GONE, CgroupTree, find_cgroup2_mount
from tests.sensor.enrich.fakes import FakeClock

HYBRID = """tmpfs /sys/fs/cgroup tmpfs rw 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0
"""
UNIFIED = "cgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\ncgroup2 /sys/fs/cgroup/guest cgroup2 rw 0 0\n"


@pytest.mark.parametrize(
    ("mounts", "within", "mount"),
    [
        (HYBRID, "/sys/fs/cgroup", "/sys/fs/cgroup/unified"),
        (HYBRID, "/sys/fs/cgroup/unified", "/sys/fs/cgroup/unified"),
        (UNIFIED, "/sys/fs/cgroup", "/sys/fs/cgroup"),
        (UNIFIED, "/host", None),
        ("none /host/my\\040cgroups cgroup2 rw 0 0\n", "/host", "/host/my cgroups"),
        ("", "/sys/fs/cgroup", None),
        ("\n\nx\n", "/", None),
        ("none /home/eve/x\x0ccgroup2\x0c/host\x0ccgroup2 fuse rw 0 0\n", "/host", None),
        ("none /home/eve/x\rcgroup2 /host cgroup2 rw 0 0\n", "/host", None),
    ],
)
def test_mount_is_found(mounts: str, within: str, mount: str | None) -> None:
    assert find_cgroup2_mount(mounts, Path(within)) == (Path(mount) if mount else None)


def test_paths_are_those_below_the_root(tmp_path: Path) -> None:
    (tmp_path / "a.slice/b.service").mkdir(parents=True)
    (tmp_path / "cgroup.procs").write_text("")
    tree = CgroupTree(tmp_path, clock=FakeClock())
    tree.walk()
    assert tree.path(tmp_path.stat().st_ino) == "/"
    assert tree.path((tmp_path / "a.slice/b.service").stat().st_ino) == "/a.slice/b.service"
    assert tree.path((tmp_path / "cgroup.procs").stat().st_ino) is None


def test_a_name_of_any_bytes_is_printable_and_what_is_below_it_is_found(tmp_path: Path) -> None:
    hostile = tmp_path / os.fsdecode(b"\xff\xfe\x1b[31m\n.slice/\x80.service")
    hostile.mkdir(parents=True)
    tree = CgroupTree(tmp_path, clock=FakeClock())
    tree.walk()
    assert tree.path(hostile.stat().st_ino) == "/\\xff\\xfe\\x1b[31m\\n.slice/\\x80.service"


def test_missing_id_walks_at_most_once_in_the_interval(tmp_path: Path) -> None:
    clock = FakeClock()
    tree = CgroupTree(tmp_path, clock=clock, min_walk_seconds=1.0)
    assert tree.path(1 << 60) is None
    (tmp_path / "late").mkdir()
    late = (tmp_path / "late").stat().st_ino
    assert tree.path(late) is None
    clock.now += 1.0
    assert tree.path(late) == "/late"


def test_index_is_bounded_and_counts_what_it_leaves_out(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / str(number)).mkdir()
    tree = CgroupTree(tmp_path, clock=FakeClock(), max_cgroups=4)
    tree.walk()
    assert tree.left_out_count == 2


def test_removed_cgroup_keeps_its_path_for_a_while(tmp_path: Path) -> None:
    """Its last calls are named after it."""
    (tmp_path / "a").mkdir()
    inode = (tmp_path / "a").stat().st_ino
    clock = FakeClock()
    tree = CgroupTree(tmp_path, clock=clock)
    assert tree.path(inode) == "/a"
    (tmp_path / "a").rmdir()
    tree.walk()
    clock.now += KEEP_SECONDS - 1
    tree.walk()
    assert tree.path(inode) == "/a"
    clock.now += 2
    tree.walk()
    assert tree.path(inode) is None


def test_removed_cgroups_are_bounded(tmp_path: Path) -> None:
    tree = CgroupTree(tmp_path, clock=FakeClock(), min_walk_seconds=1e9)
    for inode in range(1, MAX_GONE + 3):
        tree.add(inode, f"/{inode}")
    tree.walk()
    assert [tree.path(inode) for inode in (1, 2, 3)] == [None, None, "/3"]


def test_tree_that_is_gone_has_no_paths(tmp_path: Path) -> None:
    tree = CgroupTree(tmp_path / "absent", clock=FakeClock())
    assert tree.path(1) is None
