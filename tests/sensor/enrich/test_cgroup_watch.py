"""Directories made in the tree are told at once, those made in a burst and those below new ones too."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sensor.enrich.cgroup_watch import CgroupWatch


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
            assert self._changed.wait_for(lambda: path in self.paths.values(), 5.0), self.paths


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


def test_a_mount_that_is_not_there_tells_nothing(tmp_path: Path) -> None:
    told = Told(tmp_path / "absent")
    told.watch.start()
    told.watch.stop()
    assert told.paths == {}
