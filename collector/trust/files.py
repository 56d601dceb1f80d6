"""Files that only this user may read, written whole: a crash leaves the old one or the new one."""

import os
from pathlib import Path

from collector.keys import KeyFileError


def write_private(path: Path, content: bytes, *, is_new: bool = False) -> None:
    """Write `path` with mode 0600, through a file beside it. Raises KeyFileError, and FileExistsError where it must be
    new and is not."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            try:
                os.link(aside, path)
            finally:
                aside.unlink()
        else:
            aside.replace(path)
    except FileExistsError:
        raise
    except OSError as error:
        raise KeyFileError(f"{path} cannot be written ({error.strerror}); give this user the right.") from None


def read_private(path: Path) -> bytes | None:
    """The content; None where there is no file. Raises KeyFileError where others may read it, or we may not."""
    try:
        if path.stat().st_mode & 0o077:
            raise KeyFileError(f"{path} can be read by others; make it private with `chmod 600 {path}`.")
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KeyFileError(f"{path} cannot be read ({error.strerror}); give this user the right.") from None
