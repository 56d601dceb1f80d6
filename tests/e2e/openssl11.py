"""A shared OpenSSL 1.1.1, out of the package of the Python index that carries it (requirements/openssl11.lock).

`scripts/setup test` fetches the package by hash; here the two libraries are unpacked, once, into `.run/openssl11`.
"""

import os
import zipfile
from pathlib import Path
from typing import Final

import pytest

DIRECTORY: Final = Path(__file__).parents[2] / ".run" / "openssl11"


def find_openssl11() -> tuple[Path, Path]:
    """libcrypto and libssl, which needs it. Skips the test where they were not fetched."""
    wheel = max((DIRECTORY / "wheels").glob("*.whl"), default=None)
    if wheel is None:
        pytest.skip("OpenSSL 1.1 was not fetched: run scripts/setup test, its log is .run/setup.log")
    with zipfile.ZipFile(wheel) as archive:
        return _unpack(archive, "/libcrypto-"), _unpack(archive, "/libssl-")


def _unpack(archive: zipfile.ZipFile, mark: str) -> Path:
    (member,) = (name for name in archive.namelist() if mark in name)
    library = DIRECTORY / Path(member).name
    if not library.exists():
        part = library.with_suffix(f".{os.getpid()}.part")
        part.write_bytes(archive.read(member))
        part.replace(library)
    return library
