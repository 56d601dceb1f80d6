"""One collector and one browser for the folder."""

from collections.abc import Iterator

import pytest

from tests.console.browser import Chromium, open_chromium
from tests.console.seeded import SeededCollector, open_seeded


@pytest.fixture(scope="package")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeededCollector]:
    with open_seeded(tmp_path_factory.mktemp("console")) as seeded:
        yield seeded


@pytest.fixture(scope="package")
def chromium(collector: SeededCollector) -> Iterator[Chromium]:
    with open_chromium(collector.address, collector.token) as browser:
        yield browser
