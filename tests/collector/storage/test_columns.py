"""A column is one entry of the list, one of the wire and one of the documentation: none may be forgotten."""

import re
from pathlib import Path

import numpy as np
import pytest
from apidae.v1 import data_pb2
from google.protobuf.descriptor import FieldDescriptor

from collector.api.calls import CallSumsModel
from collector.api.consumers import ConsumerModel
from collector.api.endpoints import EndpointModel
from collector.core.rows import Ragged
from collector.storage.columns import COLUMNS, WIRE_TYPES, Adding, RowBatch, UsedBy, fill_columns, list_shown_columns

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/use/storage.md").read_text()
# Fields that are no column: `time` and `route_id` are made of them.
PLACES = {"route", "window_offset_seconds", "window_length_seconds"}
OF_0_1 = {"records_basis", "data_len", "data_kind", "data_count"}  # Of older sensors.
WIDE = (FieldDescriptor.TYPE_UINT64, FieldDescriptor.TYPE_FIXED64)
# Where each view reads rows.
SOURCES = {
    UsedBy.ENDPOINTS: ("collector/inventory/endpoints", "collector/core/kinds.py"),
    UsedBy.CONSUMERS: ("collector/inventory/consumers", "collector/inventory/endpoints/predicates.py"),
    UsedBy.CALLS: ("collector/inventory/evidence", "collector/inventory/endpoints/predicates.py"),
    UsedBy.DETECTORS: ("collector/detection",),
}
MODELS = {UsedBy.ENDPOINTS: EndpointModel, UsedBy.CONSUMERS: ConsumerModel, UsedBy.CALLS: CallSumsModel}


def read_sources(view: UsedBy) -> str:
    paths = [ROOT / name for name in SOURCES[view]]
    files = [file for path in paths for file in ([path] if path.is_file() else sorted(path.rglob("*.py")))]
    return "\n".join(file.read_text() for file in files)


def name_views(name: str) -> str:
    column = COLUMNS[name]
    return ", ".join(view.name.lower() for view in UsedBy if view.name and (column.shown_by | column.read_by) & view)


def test_every_column_of_the_wire_has_an_entry() -> None:
    named = {field for name, column in COLUMNS.items() for field in column.lists or (name,)}
    assert {field.name for field in data_pb2.Rows.DESCRIPTOR.fields} == named | PLACES | OF_0_1


@pytest.mark.parametrize("name", WIRE_TYPES)
def test_numbers_are_as_wide_as_on_the_wire(name: str) -> None:
    field = data_pb2.Rows.DESCRIPTOR.fields_by_name[name]
    assert (WIRE_TYPES[name] is np.uint64) == (field.type in WIDE)


@pytest.mark.parametrize("name", COLUMNS)
def test_every_entry_is_documented(name: str) -> None:
    row = f"| `{name}` | {COLUMNS[name].adding.name.lower()} | {name_views(name)} | "
    assert row in PAGE, f"docs/use/storage.md has no row that begins with {row}"


@pytest.mark.parametrize("name", COLUMNS)
def test_every_entry_is_shown_or_read(name: str) -> None:
    column = COLUMNS[name]
    assert column.shown_by | column.read_by, "nobody shows it"
    for view in UsedBy:
        if view & column.read_by:
            assert re.search(rf"\b{name}\b", read_sources(view)), f"{view} does not read it"


@pytest.mark.parametrize("view", MODELS)
def test_what_is_shown_is_in_the_api_with_its_description(view: UsedBy) -> None:
    fields = MODELS[view].model_fields
    figures = list_shown_columns(view)
    assert figures
    assert {name: fields[name].description for name in figures} == {name: one.text for name, one in figures.items()}
    assert all(figure.text and figure.adding in (Adding.SUM, Adding.MAX) for figure in figures.values())


def test_rows_of_which_nothing_is_known_hold_zeros() -> None:
    filled = fill_columns(3, calls=np.array([1, 2, 3], np.uint64))
    assert set(filled) == set(COLUMNS) <= set(RowBatch.__dataclass_fields__)
    assert filled["calls"].tolist() == [1, 2, 3] and filled["status_code"].tolist() == [0, 0, 0]
    assert isinstance(filled["duration"], Ragged) and filled["duration"].offsets.tolist() == [0, 0, 0, 0]
