"""The sandbox of a test module, which ends with it."""

from collections.abc import Iterator

import pytest

from tests.sensor.enrich.fakes import READER


@pytest.fixture(scope="module", autouse=True)
def _end_sandbox() -> Iterator[None]:
    yield
    READER.close()
