"""Which query parameters name an object, and what object a call's query makes."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor.core.calls import CallTarget
from sensor.core.keyed import fold as fold_hashes
from sensor.describe.objects import fold_objects, names_object, read_objects
from tests.sensor.records import ROUTE


def fold(query: str, object_hash: int, number: int | None, compute: Callable[[bytes], int]) -> tuple[int, int | None]:
    target = fold_objects(query, CallTarget(ROUTE, object_hash, number), compute)
    return target.object_hash, target.object_number


@pytest.mark.parametrize(
    ("name", "is_object"),
    [
        *[(name, True) for name in ("id", "ID", "report_id", "reportId", "user-id", "account.id", "uuid", "orderGuid")],
        *[(name, True) for name in ("filter[id]", "order_number", "ids", "vin", "email", "msisdn", "customer", "User")],
        *[(name, False) for name in ("page", "limit", "q", "sort", "session_id", "sessionid", "requestId")],
        *[(name, False) for name in ("paid", "valid", "grid", "gclid", "sid", "client_id", "", "_", "i" * 65)],
    ],
)
def test_names(name: str, is_object: bool) -> None:
    assert names_object(name) is is_object


@given(st.text("abcdefgIDidUuGg_-.[]", max_size=12))
def test_case_makes_no_difference(name: str) -> None:
    """The kernel knows names whatever their case."""
    assert names_object(name) is names_object(name.upper()) is names_object(name.lower())


def test_values_are_folded_behind_the_path_in_order() -> None:
    query = "page=1&report_id=27&email=a%40b&user_id=&order_id=007"
    assert list(read_objects(query)) == ["27", "a%40b", "007"]
    compute = lambda value: int.from_bytes(value.ljust(8, b"\0")[:8], "little")  # noqa: E731
    hashed = [compute(value) for value in (b"27", b"a%40b", b"007")]
    assert fold(query, 5, None, compute) == (
        fold_hashes(fold_hashes(fold_hashes(5, hashed[0]), hashed[1]), hashed[2]),
        7,
    )
    assert fold("report_id=27", 0, None, compute) == (hashed[0], 27)
    assert fold("email=x", 9, 9, compute) == (fold_hashes(9, compute(b"x")), None)
    assert fold("page=1", 9, 9, compute) == (9, 9)


def test_a_number_has_at_most_eighteen_digits() -> None:
    assert fold(f"id={'9' * 18}", 0, None, len) == (18, int("9" * 18))
    assert fold(f"id={'9' * 19}", 0, None, len) == (19, None)
