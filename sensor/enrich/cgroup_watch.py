"""Sees cgroups come, by inotify(7), so that one is known by its path however short it lives.

Watches every directory of the tree for directories made in it (mkdir(2) of a runtime is told; cgroup v2 is no
exception), gives (id, path) of each, and watches it in turn. Best effort: a cgroup that is made and gone before its
directory is looked at, and those past the bound, are left to the walks of `sensor.enrich.cgroup_tree`. Sleeps while
nothing comes.
"""

import contextlib
import ctypes
import logging
import os
import select
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from sensor.printable import make_path_printable

logger = logging.getLogger(__name__)

# A node has some 100 units and three directories a Pod. The kernel takes 8,192 of one user, or more by its memory
# (fs.inotify.max_user_watches), and about 1 KB each.
MAX_WATCHES = 4_096
_CREATE, _IGNORED, _OVERFLOW, _ONLY_DIRECTORY, _IS_DIRECTORY = 0x100, 0x8000, 0x4000, 0x0100_0000, 0x4000_0000
_EVENT = struct.Struct("iIII")  # struct inotify_event: wd, mask, cookie, len; then the name.
_READ_BYTES = 64 * 1024


class CgroupWatch:
    """Tells of new cgroups in a thread of its own."""

    def __init__(self, mount: Path, *, on_added: Callable[[int, str], None], on_lost: Callable[[], None]) -> None:
        """`on_added` takes an id and its path from the root; `on_lost` is called where events were lost: walk."""
        self._mount = os.fsencode(mount)
        self._on_added = on_added
        self._on_lost = on_lost
        self._paths: dict[int, bytes] = {}  # By watch.
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = -1
        self._wake_fd = -1
        self._thread = threading.Thread(target=self._run, name="apidae-cgroups", daemon=True)
        self.left_out_count = 0  # Directories that are not watched.

    def start(self) -> bool:
        """Whether there is anything to watch with."""
        self._fd = self._libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._fd < 0:
            return False
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC)
        self._add(b"", is_told=False)
        self._thread.start()
        return True

    def stop(self) -> None:
        """Ends the thread."""
        if self._fd >= 0:
            os.eventfd_write(self._wake_fd, 1)
            self._thread.join()
            os.close(self._fd)
            os.close(self._wake_fd)
            self._fd = -1

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.register(self._wake_fd, select.POLLIN)
        while True:
            if any(fd == self._wake_fd for fd, _ in poll.poll()):
                return
            with contextlib.suppress(BlockingIOError):
                for watch, mask, name in _split(os.read(self._fd, _READ_BYTES)):
                    try:
                        self._take(watch, mask, name)
                    except Exception:
                        # A loop boundary: this cgroup is left to the walks of the tree.
                        logger.exception("taking up a new cgroup failed")

    def _take(self, watch: int, mask: int, name: bytes) -> None:
        if mask & _OVERFLOW:
            self._on_lost()
        elif mask & _IGNORED:  # The directory is gone.
            self._paths.pop(watch, None)
        elif mask & _CREATE and mask & _IS_DIRECTORY and watch in self._paths:
            self._add(self._paths[watch] + b"/" + name, is_told=True)

    def _add(self, path: bytes, *, is_told: bool) -> None:
        """Watches the directory `path` and all below it, and tells of them. Whoever makes them chooses how deep they
        are, so one does not call for the next."""
        waiting = [path]
        while waiting:
            path = waiting.pop()
            directory = self._mount + path
            try:
                inode = os.stat(directory).st_ino  # noqa: PTH116 - bytes throughout, as in the tree.
            except OSError:
                continue
            if is_told:
                self._on_added(inode, make_path_printable(path))
            if len(self._paths) >= MAX_WATCHES:
                self.left_out_count += 1
                continue
            watch = self._libc.inotify_add_watch(self._fd, directory, _CREATE | _ONLY_DIRECTORY)
            if watch < 0:
                self.left_out_count += 1
                continue
            self._paths[watch] = path
            # What was made before the watch was there.
            with contextlib.suppress(OSError), os.scandir(directory) as entries:
                waiting += [path + b"/" + entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]


def _split(buffer: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(watch, mask, name)s of what read(2) gave."""
    place = 0
    while place + _EVENT.size <= len(buffer):
        watch, mask, _, length = _EVENT.unpack_from(buffer, place)
        name = buffer[place + _EVENT.size : place + _EVENT.size + length].rstrip(b"\0")
        yield watch, mask, name
        place += _EVENT.size + length
