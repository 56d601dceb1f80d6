"""What a form was sent with and what is wrong with it, by field, for a page that shows both again."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import ValidationError

from collector.api.parameters import Body
from collector.api.problem import describe_validation

BodyT = TypeVar("BodyT", bound=Body)


@dataclass(frozen=True, slots=True, kw_only=True)
class SentForm:
    """`values` and `faults` are by field; a fault of the whole form has the name ``. A form that was not sent has
    neither."""

    values: Mapping[str, str] = field(default_factory=dict)
    faults: Mapping[str, str] = field(default_factory=dict)


class FormError(Exception):
    """A form was refused; `faults` has a sentence for each field."""

    def __init__(self, faults: Mapping[str, str]) -> None:
        super().__init__(" ".join(faults.values()))
        self.faults = dict(faults)


def split_words(text: str) -> tuple[str, ...]:
    """What a field lists, between commas or spaces."""
    return tuple(text.replace(",", " ").split())


def read_body(kind: type[BodyT], given: Mapping[str, object]) -> BodyT:
    """The body of a route of the API, of what a form gave. A field that was left empty has its default. Raises
    FormError."""
    try:
        return kind.model_validate({name: value for name, value in given.items() if value not in ("", ())})
    except ValidationError as error:
        faults: dict[str, str] = {}
        for one in error.errors():
            name = str(one["loc"][0]) if one["loc"] else ""
            located = {**one, "loc": ("body", name) if name else ("body",)}
            faults.setdefault(name, describe_validation([located], list(kind.model_fields)))
        raise FormError(faults) from None


def read_number(text: str) -> int | str:
    """A whole number, or the text as it is."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else text
