"""Documents by type: values for the classifier and the number of records, of whole and of cut bodies."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor.describe.bodies.documents import read_document
from sensor.describe.bodies.records import CLASSIFIED_RECORDS_MAX, find_records

ROWS = [{"id": i, "mail": f"u{i}@example.org"} for i in range(7)]
ORDER = {"id": 1, "customer": {"name": "x"}, "lines": [{"sku": "a"}, {"sku": "b"}]}


@pytest.mark.parametrize(
    ("document", "records"),
    [
        (ROWS, 7),
        ([], 0),
        ({"data": ROWS}, 7),
        ({"data": []}, 0),
        ({"items": ROWS, "total": 7, "next": None}, 7),
        ({"value": ROWS, "@odata.nextLink": "https://x"}, 7),
        ({"edges": ROWS, "pageInfo": {"hasNextPage": True}}, 7),
        ({"data": {"users": {"edges": ROWS, "pageInfo": {}}}}, 7),
        ({"took": 3, "timed_out": False, "hits": {"total": {"value": 7}, "max_score": 1.0, "hits": ROWS}}, 7),
        ({"_embedded": {"orders": ROWS}, "_links": {}, "page": {"size": 7}}, 7),
        ({"users": ROWS, "count": 7}, 7),
        ({"content": ROWS, "pageable": {}, "totalElements": 7, "last": True, "empty": False}, 7),
        ({"response": {"docs": ROWS, "numFound": 7, "start": 0}}, None),
        (ORDER, None),
        ({"id": 1, "items": [{"sku": "a"}], "customer": "x"}, None),
        ({"data": ORDER}, None),
        ({"tags": ["a", "b"]}, None),
        ({"error": "none"}, None),
        ("text", None),
        (7, None),
        ({}, None),
    ],
)
def test_where_the_records_are(document: Any, records: int | None) -> None:
    found = find_records(document)
    assert (None if found is None else len(found)) == records


@pytest.mark.parametrize("media_type", ["application/json", "application/hal+json", "text/json", "", "text/plain"])
def test_json(media_type: str) -> None:
    document = read_document(json.dumps(ROWS).encode(), media_type, is_complete=True)
    assert document is not None
    assert (document.records, document.values, document.is_list) == (7, ROWS, True)


def test_an_object_is_one_record() -> None:
    document = read_document(json.dumps(ORDER).encode(), "application/json", is_complete=True)
    assert document is not None
    assert (document.records, document.values, document.is_list) == (1, ORDER, False)


@pytest.mark.parametrize("cut", [40, 77, 100, 120])
def test_a_cut_json_gives_what_came_before_the_cut(cut: int) -> None:
    document = read_document(json.dumps(ROWS).encode()[:cut], "application/json", is_complete=False)
    assert document is not None
    assert isinstance(document.values, list)
    assert document.records in (cut // 36, cut // 36 + 1)
    assert all(value.items() <= ROWS[i].items() for i, value in enumerate(document.values))


def test_lines_and_tables() -> None:
    lines = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)
    table = b"id,mail\n" + b"".join(b'%d,"u%d@example.org"\n' % (i, i) for i in range(7))
    for data, media_type in ((lines, "application/x-ndjson"), (table, "text/csv")):
        whole = read_document(data, media_type, is_complete=True)
        cut = read_document(data[:-3], media_type, is_complete=False)
        assert whole is not None
        assert cut is not None
        assert (whole.records, cut.records) == (7, 6)
        assert isinstance(whole.values, list)
        assert whole.values[3]["mail"] == "u3@example.org"
    bare = read_document(b"1;2\n3;4\n", "text/csv", is_complete=True)
    assert bare is not None
    assert bare.records == 2


def test_a_form_has_fields_and_no_records() -> None:
    document = read_document(b"mail=a%40b.org&n=1&n=2&cu", "application/x-www-form-urlencoded", is_complete=False)
    assert document is not None
    assert (document.values, document.records) == ({"mail": "a@b.org", "n": ["1", "2"]}, None)


@pytest.mark.parametrize("media_type", ["image/png", "application/octet-stream", "video/mp4", ""])
def test_other_types_are_not_read(media_type: str) -> None:
    assert read_document(b"<p>x</p>", media_type, is_complete=True) is None


@pytest.mark.parametrize("data", [b"{", b"[1,", b"<html>", b"\xff\xfe", b"[" * 5_000, b"NULL"])
def test_what_is_not_its_type_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        read_document(data, "application/json", is_complete=True)


def test_of_a_long_list_some_are_looked_at() -> None:
    data = json.dumps([{"n": i} for i in range(1_000)]).encode()
    document = read_document(data, "application/json", is_complete=True)
    assert document is not None
    assert document.records == 1_000
    assert isinstance(document.values, list)
    assert len(document.values) == CLASSIFIED_RECORDS_MAX
    assert document.values[-1]["n"] > 800


@given(
    st.binary(max_size=200), st.sampled_from(["application/json", "text/csv", "application/x-ndjson"]), st.booleans()
)
def test_raises_nothing_else(data: bytes, media_type: str, is_complete: bool) -> None:
    with contextlib.suppress(ValueError):
        read_document(data, media_type, is_complete=is_complete)


def test_what_is_said_to_be_text_and_holds_zero_bytes_is_not_read() -> None:
    assert read_document(bytes(range(256)) * 8, "text/plain", is_complete=False) is None


@pytest.mark.parametrize("data", [b"name: Ada\0", b"a\0" * 3, (b"line of text\n" * 99 + b"\0") * 9])
def test_a_few_zero_bytes_are_an_accident(data: bytes) -> None:
    assert read_document(data, "text/plain", is_complete=True) is not None
