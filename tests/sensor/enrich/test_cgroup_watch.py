"""Directories made in the tree are told at once, those made in a burst and those below new ones too."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sensor.enrich.cgroup_tree import CgroupWatch


class Told:
    """What a watch said."""

    def __init__(self, mount: Path) -> None:
        self.paths: dict[int, str] = {}
        self._changed = threading.Condition()
        self.watch = CgroupWatch(mount, on_added=self.add, on_lost=lambda: None)

    def add(self, inode: int, path: str) -> None:
        with self._changed:
            self.paths[inode] = path
            self._changed.notify_all()

    def wait(self, path: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: path in self.paths.values(), 60.0), self.paths


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    (tmp_path / "kubepods").mkdir()
    told = Told(tmp_path)
    assert told.watch.start()
    yield told
    told.watch.stop()


def test_new_directories_are_told(told: Told, tmp_path: Path) -> None:
    pod = tmp_path / "kubepods" / "pod1"
    (pod / "container").mkdir(parents=True)
    told.wait("/kubepods/pod1/container")
    assert told.paths[pod.stat().st_ino] == "/kubepods/pod1"
    (pod / "other").mkdir()
    told.wait("/kubepods/pod1/other")
    assert "/kubepods" not in told.paths.values()


def test_what_goes_again_does_not_stop_it(told: Told, tmp_path: Path) -> None:
    for number in range(50):
        (tmp_path / f"a{number}").mkdir()
        (tmp_path / f"a{number}").rmdir()
    (tmp_path / "b").mkdir()
    told.wait("/b")


def test_names_of_any_bytes_are_printable_and_watched(told: Told, tmp_path: Path) -> None:
    hostile = tmp_path / os.fsdecode(b"\xff\xfe\x80.service")
    hostile.mkdir()
    told.wait("/\\xff\\xfe\\x80.service")
    (hostile / "below\x1b").mkdir()
    told.wait("/\\xff\\xfe\\x80.service/below\\x1b")


def test_cgroups_may_lie_as_deep_as_anybody_likes(told: Told, tmp_path: Path) -> None:
    """Deeper than Python calls functions; a path has 4,096 bytes."""
    paths = [f"{tmp_path}{'/a' * depth}" for depth in range(1, 1_200)]
    for path in paths:
        os.mkdir(path)  # noqa: PTH102 - a Path so deep takes seconds.
    told.wait(paths[-1].removeprefix(str(tmp_path)))
    for path in reversed(paths):
        os.rmdir(path)  # noqa: PTH106
    (tmp_path / "b").mkdir()
    told.wait("/b")


def test_a_cgroup_on_which_it_fails_does_not_stop_it(tmp_path: Path) -> None:
    told = Told(tmp_path)

    def add(inode: int, path: str) -> None:
        if path == "/bad":
            raise RuntimeError("a bug")
        told.add(inode, path)

    watch = CgroupWatch(tmp_path, on_added=add, on_lost=lambda: None)
    assert watch.start()
    (tmp_path / "bad").mkdir()
    (tmp_path / "good").mkdir()
    told.wait("/good")
    watch.stop()


def test_a_mount_that_is_not_there_tells_nothing(tmp_path: Path) -> None:
    told = Told(tmp_path / "absent")
    told.watch.start()
    told.watch.stop()
    assert told.paths == {}
