"""Files that a user of this host keeps below their home, read so that the user cannot make the reader wait or stray.

A user may put a pipe, a link, a device or a file system of their own (FUSE) where a file is expected. So every step of
a path is opened without following links (O_PATH, O_NOFOLLOW: neither a pipe nor a file system is touched by that), must
lie on the mount of the home itself, which must be a local file system, and must be the user's; only a regular file of
bounded size is then read. Sources: open(2), proc_pid_fdinfo(5), proc_pid_mountinfo(5), passwd(5).
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Final

# A docker config with many labels is some 20 KB; an index of a thousand podman containers 500 KB.
MAX_FILE_BYTES: Final = 8 << 20
_MAX_STEPS: Final = 16
# A network's may not answer for minutes, and a user's own may never.
_LOCAL_TYPES: Final = frozenset(
    ("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "jfs", "overlay", "tmpfs")
)


def find_home(uid: int, *, root: Path = Path("/")) -> str:
    """The home of a user in /etc/passwd, absolute on the host; empty where the file does not name it."""
    try:
        # The bytes of a home come back where it is opened; it is never shown.
        with (root / "etc/passwd").open(errors="surrogateescape") as file:
            for line in file:
                fields = line.rstrip("\n").split(":")
                if len(fields) == 7 and fields[2] == str(uid) and fields[5].startswith("/") and len(fields[5]) > 1:
                    return fields[5]
    except OSError:
        pass
    return ""


def read_user_file(home: Path, relative: PurePosixPath, uid: int) -> bytes | None:
    """The content of a user's regular file below `home`; None where there is none that may be read. Never raises for
    what the user did."""
    parts = relative.parts
    if not parts or len(parts) > _MAX_STEPS or ".." in parts or relative.is_absolute():
        return None
    try:
        with _open_path(str(home)) as top:
            mount = _mount_of(top)
            if not _is_local(mount) or os.fstat(top).st_uid != uid:
                return None
            return _read_below(top, parts, uid, mount)
    except OSError:
        return None


def _read_below(directory: int, parts: tuple[str, ...], uid: int, mount: str) -> bytes | None:
    with _open_path(parts[0], directory) as found:
        if _mount_of(found) != mount:
            return None
        status = os.fstat(found)
        if status.st_uid != uid:
            return None
        if len(parts) > 1:
            return _read_below(found, parts[1:], uid, mount) if stat.S_ISDIR(status.st_mode) else None
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_FILE_BYTES:
            return None
        # The very file that was looked at, whatever its name means by now.
        with open(f"/proc/self/fd/{found}", "rb") as file:  # noqa: PTH123 - a descriptor, not a path.
            return file.read(MAX_FILE_BYTES)


@contextmanager
def _open_path(name: str, directory: int | None = None) -> Iterator[int]:
    """A descriptor that stands for the file without opening it."""
    descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _mount_of(descriptor: int) -> str:
    """The id of the mount on which a descriptor's file lies."""
    for line in Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "mnt_id":
            return value.strip()
    return ""


def _is_local(mount: str) -> bool:
    for line in Path("/proc/self/mountinfo").read_text(errors="replace").splitlines():
        fields, _, rest = line.partition(" - ")
        if fields.split(" ", 1)[0] == mount:
            return rest.split(" ", 1)[0] in _LOCAL_TYPES
    return False
