"""Of bodies with more fields than are looked at, fields that were never asked come first."""

import json
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor.core.calls import RawBodies
from sensor.describe.bodies.reader import NODES_MAX, BodyCall, BodyReader
from sensor.describe.bodies.sampling import SampleRule
from sensor.sensitive import document as documents
from sensor.sensitive.document import (
    FIELDS_MAX,
    LOOKED_MAX,
    ROUTES_MAX,
    AskedBook,
    AskedFields,
    Side,
    find_sensitive,
)
from sensor.sensitive.kinds import DataKind, DataPlace, make_codes
from tests.sensor.describe.bodies.messages import response_head

ROOM = 100
OLD = {f"field_{number}": "nothing" for number in range(2 * ROOM)}


@pytest.fixture(autouse=True)
def _same_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's differ with each process, and two fields that share a bit take turns: one in sixteen, of 4,000."""
    monkeypatch.setattr(documents, "hash", lambda field: crc32(repr(field).encode()), raising=False)


def find(document: object, asked: AskedFields | None) -> set[str]:
    found = find_sensitive(document, max_nodes=ROOM, max_values=8, find_asked=None if asked is None else lambda: asked)
    return {finding.path for finding in found}


def test_a_field_that_others_crowd_out_has_its_turn_in_the_next_body() -> None:
    document = {**OLD, "last": "a@example.org"}
    asked = AskedFields()
    assert [find(document, asked) for _ in range(3)] == [set(), set(), {"$.last"}]
    assert find(document, None) == set()  # Without a memory it never has.


@pytest.mark.parametrize(
    "appeared",
    [
        {**OLD, "contact": "a@example.org"},
        {**OLD, "inner": {"contact": "a@example.org"}},
        {"inner": {"contact": "a@example.org"}, "rows": [{"n": n, "m": [n]} for n in range(1_000)], **OLD},
        {"rows": [{"n": "x"} for n in range(1_000)], "inner": [[{"contact": "a@example.org"}]], **OLD},
    ],
    ids=["flat", "inner", "before a list", "behind a list"],
)
def test_a_field_that_appears_is_asked_at_once(appeared: dict[str, object]) -> None:
    asked = AskedFields()
    for _ in range(4):
        assert find({**appeared, "inner": {}, "contact": None}, asked) == set()
    (path,) = find(appeared, asked)
    assert path.endswith("contact")


def test_what_fits_is_asked_whole_each_time() -> None:
    document = {f"field_{number}": "a@example.org" for number in range(ROOM)}
    assert len(find(document, AskedFields())) == len(find(document, AskedFields())) == ROOM


def test_bounds() -> None:
    flood = {f"field_{number}": "a@example.org" for number in range(3 * LOOKED_MAX)}
    assert len(find(flood, AskedFields())) == ROOM
    book = AskedBook()
    first = book.find(Side(0, is_request=True))
    first.learn(7)
    for route in range(1, ROUTES_MAX):
        book.find(Side(route, is_request=True))
    assert book.find(Side(0, is_request=True)).knows(7)
    for route in range(ROUTES_MAX):
        book.find(Side(route, is_request=False))
    assert not book.find(Side(0, is_request=True)).knows(7)


@given(st.lists(st.integers(-(1 << 62), 1 << 62), max_size=50))
def test_what_was_learned_is_known(fields: list[int]) -> None:
    asked = AskedFields()
    for field in fields:
        asked.learn(field)
        assert asked.knows(field)


def test_a_memory_that_is_full_begins_anew() -> None:
    asked = AskedFields()
    for field in range(FIELDS_MAX):
        asked.learn(field)
    assert asked.knows(0)
    asked.learn(FIELDS_MAX)
    assert not asked.knows(0) and asked.knows(FIELDS_MAX)


def test_sides_of_routes_are_apart_in_the_reader() -> None:
    reader = BodyReader(SampleRule(first_count=1 << 30))
    wide = {f"field_{number}": number for number in range(NODES_MAX + 50)}
    email = make_codes(DataPlace.RESPONSE_BODY, {DataKind.EMAIL})

    def tell(route_id: int, document: dict[str, object]) -> set[int]:
        raw = json.dumps(document).encode()
        head = response_head(length=len(raw))
        facts = reader.read(BodyCall(route_id, 200, b"", head, 0, len(head) + len(raw), 1, RawBodies(b"", raw)))
        assert facts is not None
        return set(facts.data)

    for _ in range(2):
        assert tell(1, wide) == set()
    assert tell(1, {**wide, "contact": "a@example.org"}) == email
    assert tell(2, {**wide, "contact": "a@example.org"}) == set()
