"""Small files that survive a crash: each is written as a whole, so that a reader finds the old one or the new one.

The content is written beside the file, synced, and renamed; then the directory is synced, for only that makes the new
name last. A list that only grows is a file of lines, and a line is in it whole or not at all. Source: Pillai et al.,
"All file systems are not created equal", OSDI 2014, and rename(2), fsync(2).

A file that cannot be read back is the operator's to mend: `read_json` raises the one sentence that says how.
"""

import json
import os
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, TypeVar

T = TypeVar("T")

_CHECKSUM = "checksum"


def write_durably(path: Path, content: bytes | Callable[[IO[bytes]], object], *, mode: int = 0o600) -> None:
    """Replaces a file as a whole; `mode` holds whatever the umask. `content` may write itself. One writer at a time.

    Raises OSError, after which the old file is there and nothing beside it.
    """
    aside = path.with_name(f"{path.name}.new")
    aside.unlink(missing_ok=True)  # Left by a crash.
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content)
            file.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def append_line(path: Path, line: bytes, *, mode: int = 0o600) -> int:
    """Appends a line, whose end is added, to a file that is made where there is none; synced on return. Gives the
    file's size. What a crash left of an earlier line gets its end first.

    Raises OSError, after which nothing of the line is in the file.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, mode)
    try:
        size = os.fstat(descriptor).st_size
        is_cut = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        rest = memoryview((b"\n" if is_cut else b"") + line + b"\n")
        end = size + len(rest)
        try:
            while rest:  # A nearly full disk takes a part, and refuses the rest at the next call.
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, size)
            raise
        return end
    finally:
        os.close(descriptor)


def sync_directory(directory: Path) -> None:
    """Makes creations, renames and deletions in a directory durable. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_whole(path: Path) -> bytes:
    """The content of a file of ours. Raises OSError, also where the name is a symbolic link: it leads to what somebody
    else chose."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        return file.read()


def read_json(path: Path, convert: Callable[[Any], T], damaged: Exception) -> T | None:
    """What `convert` makes of the JSON in a file; None where there is no file. Raises OSError, and `damaged` as
    `parse_json` does."""
    try:
        content = read_whole(path)
    except FileNotFoundError:
        return None
    return parse_json(content, convert, damaged)


def seal(fields: Mapping[str, Any]) -> bytes:
    """JSON of fields with a checksum of them: a changed digit is JSON too."""
    return json.dumps({**fields, _CHECKSUM: zlib.crc32(json.dumps(fields).encode())}).encode()


def check_seal(fields: dict[str, Any]) -> dict[str, Any]:
    """What was sealed, without its checksum; files of earlier versions have none. Raises ValueError where it
    changed since."""
    checksum = fields.pop(_CHECKSUM, None)
    if checksum is not None and checksum != zlib.crc32(json.dumps(fields).encode()):
        raise ValueError("the checksum is another")
    return fields


def parse_json(content: bytes, convert: Callable[[Any], T], damaged: Exception) -> T:
    """What `convert` makes of JSON. Raises `damaged`, whose sentence names the file and the fix, where it is no JSON or
    not what `convert` expects."""
    try:
        return convert(json.loads(content))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        raise damaged from None
