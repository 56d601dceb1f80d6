"""Packages of the Python index that hold a library of TLS, unpacked out of their wheels and not installed
(requirements/tls.lock; `scripts/setup test` fetches them by hash).
"""

import os
import shutil
import zipfile
from pathlib import Path
from typing import Final

import pytest

DIRECTORY: Final = Path(__file__).parents[2] / ".run" / "tls"


def unpack_wheel(name: str) -> Path:
    """The directory from which a package is imported; made once. Skips the test where it was not fetched."""
    wheel = max((DIRECTORY / "wheels").glob(f"{name}-*.whl"), default=None)
    if wheel is None:
        pytest.skip(f"{name} was not fetched: run scripts/setup test, its log is .run/setup.log")
    place = DIRECTORY / wheel.stem
    if not place.exists():
        part = place.with_suffix(f".{os.getpid()}.part")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(part)
        try:
            part.rename(place)
        except OSError:  # Another test was faster.
            shutil.rmtree(part)
    return place
