"""The kernel side compiled here for the machine, where LLVM takes minutes."""

import os
from pathlib import Path
from typing import Final

from scripts.compiled import list_builds
from scripts.live.host import CACHE_DIRECTORY
from sensor.ebpf.compile import Build, ImageCache, build_http1, make_digest
from sensor.ebpf.loader import RECORDS_BYTES, compile_build

# Names the directory to the tests in the machine; unset everywhere else.
VARIABLE: Final = "APIDAE_TEST_IMAGES"
RING_BYTES: Final = 8 << 20


def describe_build() -> Build:
    """What the tests of the kernel side load."""
    return build_http1(RING_BYTES, RECORDS_BYTES, True)


def is_emulated() -> bool:
    """Whether tests run in an emulated machine, where compiling and starting take minutes."""
    return VARIABLE in os.environ


def find_images() -> Path:
    """The directory of images that tests may take instead of compiling, and keep more in."""
    return Path(os.environ.get(VARIABLE, CACHE_DIRECTORY))


def compile_images(directory: Path) -> Path:
    """Compiles all programs, once for all kernels. Gives the directory, to name in `VARIABLE`. Raises LoadError."""
    cache = ImageCache(directory)
    for build, _ in list_builds().values():
        if cache.find_image(make_digest(build)) is None:
            cache.keep_image(make_digest(build), compile_build(build))
    return directory
