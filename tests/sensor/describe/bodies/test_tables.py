"""Rows of tables are records, and their columns are fields, as databases, data frames and spreadsheets write them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor.describe.bodies.documents import read_document
from sensor.describe.bodies.records import CLASSIFIED_RECORDS_MAX, name_rows
from sensor.sensitive.document import find_sensitive

NAMES = ["id", "name", "email", "born"]
ROW = [7, "Anna Meier", "anna@example.org", "1980-02-03"]
ROWS = [ROW] * 31
KINDS = {"PERSON_NAME", "EMAIL", "DATE_OF_BIRTH"}
DESCRIBED = [{"name": name, "type": "String"} for name in NAMES]


@pytest.mark.parametrize(
    "document",
    [
        {"database": "shop", "table": "users", "rows": ROWS, "columns": NAMES, "ok": True, "truncated": False},
        {"columns": NAMES, "index": list(range(31)), "data": ROWS},
        {"fields": NAMES, "values": ROWS},
        {"columns": [{"name": name, "type": "text"} for name in NAMES], "rows": ROWS, "cursor": "c"},
        {"meta": DESCRIBED, "data": ROWS, "rows": 31, "statistics": {"elapsed": 0.1}},
        {"results": [{"series": [{"name": "users", "columns": NAMES, "values": ROWS}]}]},
        {"resultSetMetaData": {"numRows": 31, "rowType": DESCRIBED}, "data": ROWS},
        {"meta": {"view": {"columns": [{"id": 1, "fieldName": "x", "name": one} for one in NAMES]}}, "data": ROWS},
        {"data": {"cols": [{"display_name": "x", "name": one} for one in NAMES], "rows": ROWS}},
        {"frames": [{"schema": {"fields": DESCRIBED}, "data": {"values": [[value] * 31 for value in ROW]}}]},
        {"range": "A1:D32", "values": [NAMES, *ROWS]},
        [NAMES, *ROWS],
    ],
)
def test_rows_of_a_table_are_records(document: object) -> None:
    found = read_document(json.dumps(document, indent=1).encode(), "application/json", is_complete=True)
    assert found is not None
    assert (found.records, found.is_list) == (31, True)
    assert {finding.kind.value for finding in find_sensitive(found.values)} == KINDS


def test_a_table_that_is_cut_counts_what_came() -> None:
    data = json.dumps({"columns": NAMES, "rows": ROWS}).encode()
    found = read_document(data[: len(data) // 2], "application/json", is_complete=False)
    assert found is not None
    assert found.records in (14, 15, 16)
    assert {finding.kind.value for finding in find_sensitive(found.values)} == KINDS


def test_names_of_columns_are_fields_of_the_schema() -> None:
    found = read_document(json.dumps({"columns": NAMES, "rows": ROWS}).encode(), "application/json", is_complete=True)
    assert found is not None and isinstance(found.tree, dict)
    assert found.tree["rows"] == [dict(zip(NAMES, ROW, strict=True))] * CLASSIFIED_RECORDS_MAX


@pytest.mark.parametrize(
    "document",
    [
        {"type": "Polygon", "coordinates": [[13.1, 52.5], [13.2, 52.6]]},
        {"status": "success", "data": {"resultType": "matrix", "result": [{"metric": {}, "values": [[1, "2"]]}]}},
        {"matrix": [[1, 2], [3, 4]], "labels": ["a", "b", "c"]},
        {"tags": [["a", "b"], ["c", "d"]]},
        [[1, 2], [3, 4]],
        [[], []],
        {"columns": [], "rows": []},
        {"rows": [[1], [1, 2]], "columns": ["a", "b", "c"]},
    ],
)
def test_other_lists_of_lists_are_left_as_they_are(document: object) -> None:
    assert name_rows(document) is None


JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=40,
)


@given(JSON)
def test_no_document_breaks_the_search_for_tables(document: object) -> None:
    name_rows(document)
