"""Fields that probably hold a kind of data, by name and format."""

import pytest

from collector.schemas.kinds import find_fields
from collector.schemas.merging import FieldNode, Part, PartSchema
from collector.schemas.service import NOTHING_KNOWN, EndpointSchema


def make_schema(**fields: str) -> EndpointSchema:
    """A response: a list of objects with these fields and types."""
    item = FieldNode(children={name: FieldNode(types={kind: 1}) for name, kind in fields.items()})
    root = FieldNode(children={"items": FieldNode(children={"[]": item})})
    part = PartSchema(
        part=Part.RESPONSE_BODY, status_class=2, media_type="application/json", samples=1, left_out=0, root=root
    )
    return EndpointSchema(parts=(part,), operations=(), operation_samples=0)


@pytest.mark.parametrize(
    ("field", "type_name", "kind"),
    [
        ("email", "string", "email"),
        ("contact", "string/email", "email"),
        ("cardNumber", "string", "credit_card"),
        ("credit_card", "string", "credit_card"),
        ("lastName", "string", "person_name"),
        ("dateOfBirth", "string", "date_of_birth"),
        ("iban", "string", "iban"),
    ],
)
def test_a_field_is_named_where_name_or_format_says_the_kind(field: str, type_name: str, kind: str) -> None:
    schema = make_schema(**{field: type_name, "id": "integer"})
    assert find_fields(schema, [kind, "ssn"]) == {kind: (f"items[].{field}",)}


def test_a_field_whose_name_only_contains_the_word_is_not_named() -> None:
    assert find_fields(make_schema(discard="string", emailed="boolean"), ["credit_card", "email"]) == {}
    assert find_fields(NOTHING_KNOWN, ["email"]) == {}
