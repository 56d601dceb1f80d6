"""A ClickHouse server over HTTP: what differs from the embedded engine; what is alike is in test_conformance.py."""

import pytest

from collector.storage.base import StoreError
from collector.storage.clickhouse import ClickHouseStore, open_server

pytestmark = pytest.mark.store


def test_parameters_may_be_longer_than_a_uri(server: ClickHouseStore) -> None:
    numbers = list(range(2**64 - 60_000, 2**64))
    assert server.query("SELECT length({numbers:Array(UInt64)}) AS n", {"numbers": numbers}) == [(60_000,)]


@pytest.mark.parametrize(("user", "password"), [("apidae", "guessed-wrong"), ("nobody", "guessed-wrong")])
def test_a_wrong_password_is_one_sentence_without_it(server_address: str, user: str, password: str) -> None:
    host = server_address.rsplit("@", 1)[1]
    with pytest.raises(
        StoreError, match=r"The store at http://127.0.0.1:\d+ cannot be used .*Authentication failed"
    ) as told:
        open_server(f"http://{user}:{password}@{host}/default")
    assert password not in str(told.value) and "\n" not in str(told.value)
