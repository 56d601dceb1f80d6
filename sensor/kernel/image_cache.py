"""Images of the kernel side kept between starts: compiling takes seconds, reading one milliseconds.

A file's name holds a digest of all that went into it: sources, stub headers, build constants, and the compiler's own
file. Whoever may write to the directory may choose what is loaded into the kernel, so it is the sensor's state
directory (0700, root) and a file that somebody else owns or may write to is not read. The images used last are kept.
"""

import contextlib
import hashlib
import importlib.util
import logging
import os
import tempfile
from pathlib import Path
from typing import Final

import msgspec

from sensor.kernel.compile import BPF_DIRECTORY, Build
from sensor.kernel.image import Image

logger = logging.getLogger(__name__)

_SUFFIX: Final = ".image"
IMAGES_MAX: Final = 16  # Of some 400 KB each. A node needs one for each way of capture and scope, and one for TLS.


class ImageCache:
    """The images in one directory; None keeps nothing."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory

    def find(self, digest: str) -> Image | None:
        """The image of this digest, where one was kept and is whole."""
        if self._directory is None:
            return None
        path = self._directory / (digest + _SUFFIX)
        try:
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_uid != os.geteuid() or status.st_mode & 0o022:
                    logger.warning("%s is not read: others may write to it", path)
                    return None
                image = msgspec.msgpack.decode(file.read(), type=Image)
            with contextlib.suppress(OSError):
                os.utime(path)
            return image
        except (OSError, msgspec.DecodeError):
            return None

    def keep(self, digest: str, image: Image) -> None:
        """Keeps this image, and of the others those that were used last. A directory that cannot be written costs the
        next start some seconds."""
        if self._directory is None:
            return
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self._directory, suffix=".part", delete=False) as file:
                file.write(msgspec.msgpack.encode(image))
            Path(file.name).replace(self._directory / (digest + _SUFFIX))
            by_use = sorted(self._directory.glob("*" + _SUFFIX), key=lambda kept: kept.stat().st_mtime_ns)
            for unused in by_use[:-IMAGES_MAX]:
                unused.unlink()
        except OSError as error:
            logger.info("the compiled kernel side is not kept: %s", error)

    def drop(self, digest: str) -> None:
        """The kernel refused it: another kernel, or a damaged file."""
        if self._directory is not None:
            with contextlib.suppress(OSError):
                (self._directory / (digest + _SUFFIX)).unlink()


def link_images(kept: Path, place: Path) -> None:
    """Makes `place` a directory with links to the images that are kept in another: a cache there finds them, and keeps
    and drops none of them."""
    place.mkdir(exist_ok=True)
    for image in kept.glob("*" + _SUFFIX):
        (place / image.name).symlink_to(image.absolute())


def make_digest(build: Build, release: str = "") -> str:
    """Of everything that decides what the compiler makes; `release`: of another kernel than the running one."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(BPF_DIRECTORY.rglob("*.[ch]")):
        digest.update(str(path.relative_to(BPF_DIRECTORY)).encode() + b"\0" + path.read_bytes())
    digest.update(msgspec.msgpack.encode(build))
    digest.update(f"{release or os.uname().release} {os.uname().machine} {_find_compiler()}".encode())
    return digest.hexdigest()


def _find_compiler() -> str:
    """The bcc package's file and its age; importing it would load LLVM into this process."""
    spec = importlib.util.find_spec("bcc")
    return f"{spec.origin} {Path(spec.origin).stat().st_mtime_ns}" if spec is not None and spec.origin else ""
