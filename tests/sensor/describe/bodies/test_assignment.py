"""A field that no other caller sends is found by what it grants and by what answers show; ordinary variety is not."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.privileges import NAMES, OTHER, is_weak, number_name, show_name
from sensor.describe.bodies import assignment
from sensor.describe.bodies.assignment import FieldBook
from sensor.describe.bodies.documents import Text
from sensor.sensitive.kinds import PLACE_SHIFT, DataPlace

PEOPLE = 90
THIEF = 9_999


def extra(name: str) -> int:
    return DataPlace.EXTRA_FIELD << PLACE_SHIFT | number_name(name)


def taken(name: str) -> int:
    return DataPlace.SET_FIELD << PLACE_SHIFT | number_name(name)


def make_book(*, people: int = PEOPLE, answers: bool = True) -> FieldBook:
    """People who each change their profile, whose answers also have what the server sets."""
    book = FieldBook()
    for who in range(1, people + 1):
        sent = {"name": f"n{who}", "address": {"city": f"c{who % 7}"}, **({"phone": "1"} if who % 3 else {})}
        answer = {"id": who, **sent, "role": "user", "verified": False, "level": who % 3, "balance": who * 7}
        assert book.see(1, who, sent, {"data": answer} if answers else None) == set()
    return book


@pytest.mark.parametrize(
    ("field", "answer", "code"),
    [
        ({"role": "admin"}, {"role": "admin"}, taken("role")),
        ({"verified": True}, {"verified": True}, taken("verified")),
        (
            {"level": 9},
            {"level": 9},
            taken("level"),
        ),  # Its name grants nothing; the answers show that the server sets it.
        ({"isAdmin": True}, {}, extra("admin")),
        ({"user": {"is_admin": 1}}, {}, extra("admin")),
        ({"permissions": ["write", "read"]}, {}, extra("permissions")),
        ({"balance": 10_000}, {"balance": 10_000}, extra("balance")),  # Each has its own: who knows what it was?
        ({"role": "admin"}, {"role": "user"}, extra("role")),  # It was not taken, and tried.
        ({"status": "gold"}, {}, None),  # People change a state for good reasons,
        ({"nickname": "x"}, {"nickname": "x"}, None),  # and use what others do not.
        ({"role": "user"}, {"role": "user"}, None),  # As it is.
        ({}, {}, None),
    ],
)
def test_one_field_more_is_found_by_what_it_does(field: dict, answer: dict, code: int | None) -> None:  # type: ignore[type-arg]
    found = make_book().see(1, THIEF, {"name": "x", **field}, {"data": {"id": 8, "role": "user", **answer}})
    assert found == (set() if code is None else {code})


def test_forms_are_read_as_they_are() -> None:
    sent = {"name": Text("x"), "user[verified]": Text("true")}
    assert make_book().see(1, THIEF, sent, None) == {extra("verified")}
    assert make_book().see(1, THIEF, {"verified": Text("true")}, {"verified": True}) == {taken("verified")}


def test_it_is_found_each_time_and_not_of_others_who_send_it_later() -> None:
    book = make_book()
    for _ in range(3):
        assert book.see(1, THIEF, {"role": "admin"}, {"role": "admin"}) == {taken("role")}
    book.see(1, 7, {"role": "admin"}, None)
    assert book.see(1, 8, {"role": "admin"}, None) == set()


def test_a_client_that_sends_back_the_whole_object_is_not_found() -> None:
    whole = {"id": 8, "name": "x", "role": "boss", "verified": True, "level": 7, "balance": 12, "plan": "free"}
    assert make_book().see(1, THIEF, whole, whole) == set()


def test_with_few_callers_nobody_is_found() -> None:
    assert make_book(people=assignment.CALLERS_MIN - 1).see(1, THIEF, {"role": "admin"}, {"role": "admin"}) == set()
    few = make_book(people=assignment.CALLERS_MIN + 8)
    assert few.see(1, THIEF, {"level": 9}, {"level": 9}) == set()
    assert few.see(1, THIEF, {"role": "admin"}, {"role": "admin"}) == {taken("role")}


def test_where_callers_send_what_they_like_nobody_is_found() -> None:
    book = FieldBook()
    for who in range(1, PEOPLE + 1):
        book.see(1, who, {"name": "x", f"custom_{who}": 1}, None)
    assert book.see(1, THIEF, {"name": "x", "role": "admin"}, None) == set()


@pytest.mark.parametrize(
    "body", [{"jsonrpc": "2.0", "method": "a", "params": {"role": "x"}}, {"query": "{a}"}, [], "x"]
)
def test_operations_and_other_documents_are_skipped(body: object) -> None:
    assert make_book().see(1, THIEF, body, {"role": "x"}) == set()


def test_an_unknown_caller_says_nothing() -> None:
    assert make_book().see(1, 0, {"role": "admin"}, {"role": "admin"}) == set()


def test_of_a_thousand_people_who_fill_in_optional_fields_at_most_one_is_found() -> None:
    """Forms with 25 fields of which each is filled in by a part of the people, and answers that show them."""
    found: set[tuple[int, int]] = set()
    for seed in range(20):
        random, book = Random(seed), FieldBook()
        names = [*NAMES[::5], *(f"field_{n}" for n in range(14))]
        shares = {name: random.choice((0.05, 0.2, 0.5, 0.9, 1.0)) for name in names}
        for _ in range(1_500):
            who = random.randrange(1, 400)
            sent = {name: random.randrange(50) for name, share in shares.items() if random.random() < share}
            if book.see(seed, who, {"name": "x", **sent}, {"id": random.randrange(10**6), **sent}):
                found.add((seed, who))
    assert len(found) <= 20 * 400 // 1_000


def test_memory_is_bounded() -> None:
    book = FieldBook()
    for route in range(300):
        for who in range(1, 40):
            book.see(route, who, {f"f{who}_{n}": n for n in range(40)}, {f"g{who}_{n}": who for n in range(40)})
    assert book._total <= assignment.TOTAL_MAX
    assert book._total == sum(len(one.fields) + len(one.answered) for one in book._routes.values())


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@given(st.lists(st.tuples(st.integers(0, 20), _JSON, _JSON), max_size=30))
def test_any_documents_are_taken_without_an_error(calls: list[tuple[int, object, object]]) -> None:
    book = make_book(people=14)
    for who, request, response in calls:
        book.see(1, who, request, response)


def test_names_have_numbers_below_the_one_of_others() -> None:
    assert [number_name(name) for name in NAMES] == list(range(1, len(NAMES) + 1)) and len(NAMES) < OTHER
    assert {number_name(name) for name in ("isAdmin", "is_admin", "ADMIN", "user[is_admin]", "userIsAdmin")} == {
        number_name("admin")
    }
    assert number_name("colour") == OTHER and show_name(OTHER) == "" and show_name(number_name("Role")) == "role"
    assert is_weak(OTHER) and is_weak(number_name("status")) and not is_weak(number_name("balance"))
