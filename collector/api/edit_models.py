"""What the API takes and answers about template edits, as pydantic models."""

from pydantic import Field

from collector.api.base_model import Model, OptionalTime, Time
from collector.api.parameters import ActionBody, Items, Text
from collector.inventory.edits import EditKind


class RenameBody(ActionBody):
    """Another name for a parameter."""

    place: int = Field(ge=0, description="Which segment, from 0.")
    name: Text = Field(max_length=64, examples=["user_id"])


class SplitBody(ActionBody):
    """An endpoint of its own for one value."""

    place: int = Field(ge=0, description="Which segment, from 0.")
    value: Text = Field(max_length=200, examples=["me"])


class HostBody(ActionBody):
    """Hosts that were taken for one, apart again."""

    host: Text = Field(default="", max_length=300, description="Which keeps its own name; empty: all of them.")


class MergeBody(ActionBody):
    """Several endpoints as one."""

    endpoints: Items[Text] = Field(min_length=2, max_length=100)
    name: Text = Field(default="", max_length=64, description="Of the parameter; default from what is before it.")


class EditModel(Model):
    """One edit."""

    id: str
    kind: EditKind
    host: str
    method: str
    template: str = Field(description="The template that it gives.")
    by: str
    time: Time
    exact_since: OptionalTime = Field(description="Of a split: since when all calls are apart.")
    note: str
    undone_by: str
    undone_at: OptionalTime


class EditPageModel(Model):
    """All of them, newest first, those undone too."""

    items: tuple[EditModel, ...]
