"""A filter is written once, as a field of its list, and is everywhere: API, SQL, command line, page and reference."""

import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, get_args

import pytest

from collector.cli.lists import list_options
from collector.inventory.filters import ListQuery, SpanParameters
from collector.ui.components.tables import build_controls
from scripts.reference.filters import LISTS, PAGE, format_filters
from tests.collector.http_serving import make_app

# Fields that choose no rows by a predicate: which page, how it is sorted, how far back; and of endpoints, whether
# operations and hops are rows too.
MOMENTS = ("first_seen_since", "last_seen_since", "last_seen_before")
PAGING = {"limit", "cursor", "sort", "order", "operations", "hops"}
VALUES = {"address": "10.0.0.0/8", "data": "personal", "status": "4xx", **dict.fromkeys(MOMENTS, "2h")}
QUERIES = [query for query, _ in LISTS.values()]


def find_lists(kind: type[ListQuery]) -> Iterator[type[ListQuery]]:
    for one in kind.__subclasses__():
        if not one.__subclasses__():
            yield one
        yield from find_lists(one)


def make_value(query: type[ListQuery], name: str) -> Any:
    """A value that filters."""
    for kind in get_args(query.model_fields[name].annotation):
        if isinstance(kind, type) and issubclass(kind, StrEnum):
            return next(iter(kind))
        if kind is bool:
            return True
        if kind is int:
            return 70
    return VALUES.get(name, "none")


def test_every_list_is_in_the_reference() -> None:
    assert set(find_lists(ListQuery)) == set(QUERIES)
    assert PAGE.read_text() == format_filters(), "run scripts/generate and commit"


@pytest.mark.parametrize("query", QUERIES)
def test_every_field_of_a_list_says_how_it_filters(query: type[ListQuery]) -> None:
    others = PAGING | (set(SpanParameters.model_fields) if issubclass(query, SpanParameters) else set())
    assert set(query.list_filters()) == set(query.model_fields) - others
    assert all(query.model_fields[name].description for name in query.list_filters())


@pytest.mark.parametrize("query", QUERIES)
def test_a_predicate_names_its_parameters(query: type[ListQuery]) -> None:
    for name, (_, described) in query.list_filters().items():
        found = described.build(name, make_value(query, name))
        if described.where is not None:
            assert found is not None
            assert set(re.findall(r"\{(\w+):[\w()]+\}", found.sql)) == set(found.parameters), name
        assert described.build(name, query.model_fields[name].default) is None


@pytest.mark.parametrize("path", LISTS)
def test_a_filter_is_a_parameter_an_option_and_a_control(path: str) -> None:
    query, command = LISTS[path]
    names = set(query.list_filters())
    document = make_app().openapi()  # type: ignore[attr-defined]
    if path in {one.removeprefix("/api/v1") for one in document["paths"]}:  # Findings need a RiskAssessor.
        described = {one["name"]: one for one in document["paths"][f"/api/v1{path}"]["get"]["parameters"]}
        assert set(described) == set(query.model_fields)
        assert all(described[name]["description"] for name in names)
    assert names <= {one.name for one in list_options(query)}, command
    assert names == {control.name for control in build_controls(query())} - ({"start", "end"} - names)
