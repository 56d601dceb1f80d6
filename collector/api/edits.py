"""/template-edits, and the edits of an endpoint's template."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from collector.api.base_model import Model, OptionalTime, Time
from collector.api.parameters import ActionBody, Items, NoParameters
from collector.inventory.filters import Text
from collector.inventory.templates.editor import TemplateEditor
from collector.inventory.templates.mapping import EditKind


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


def build_edit_routes(*, editor: TemplateEditor) -> APIRouter:
    """Routes of edits."""
    router = APIRouter(tags=["templates"])

    @router.get("/template-edits", summary="List template edits")
    def list_edits(_: Annotated[NoParameters, Query()]) -> EditPageModel:
        """What people decided about templates."""
        return EditPageModel(items=tuple(EditModel.model_validate(edit) for edit in editor.list_edits()))

    @router.post("/template-edits/merge", summary="Make several endpoints one")
    def merge(body: MergeBody) -> EditModel:
        """Their differing segments become a parameter."""
        return EditModel.model_validate(editor.merge(body.endpoints, name=body.name, by=body.by))

    @router.post("/template-edits/{edit_id}/undo", summary="Undo a template edit")
    def undo(edit_id: str, body: ActionBody) -> EditModel:
        """Its routes are again what learning and the other edits say."""
        return EditModel.model_validate(editor.undo(edit_id, by=body.by))

    @router.post("/endpoints/{endpoint_id}/rename", summary="Rename a parameter of a template")
    def rename(endpoint_id: str, body: RenameBody) -> EditModel:
        """The endpoint keeps its template from then on, as if it were pinned."""
        return EditModel.model_validate(editor.rename(endpoint_id, place=body.place, name=body.name, by=body.by))

    @router.post("/endpoints/{endpoint_id}/split", summary="Give one value an endpoint of its own")
    def split(endpoint_id: str, body: SplitBody) -> EditModel:
        """Of words whose text is known."""
        return EditModel.model_validate(editor.split(endpoint_id, place=body.place, value=body.value, by=body.by))

    @router.post("/endpoints/{endpoint_id}/keep-host", summary="Keep hosts apart that were taken for one")
    def keep_host(endpoint_id: str, body: HostBody) -> EditModel:
        """One host, or all that its pattern (`{tenant}.example.com`) stands for."""
        return EditModel.model_validate(editor.keep_host(endpoint_id, host=body.host, by=body.by))

    @router.post("/endpoints/{endpoint_id}/pin", summary="Pin an endpoint's template")
    def pin(endpoint_id: str, body: ActionBody) -> EditModel:
        """Nothing that is learned later changes it."""
        return EditModel.model_validate(editor.pin(endpoint_id, by=body.by))

    return router
