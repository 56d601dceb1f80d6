"""/template-edits, and what may be done to an endpoint's template."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import APIRouter, Query

from collector.api.edit_models import EditModel, EditPageModel, HostBody, MergeBody, RenameBody, SplitBody
from collector.api.parameters import ActionBody, NoParameters
from collector.api.problem import Problem
from collector.inventory.editor import TemplateEditor
from collector.inventory.edits import EditError


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
        with _telling():
            return EditModel.model_validate(editor.merge(body.endpoints, name=body.name, by=body.by))

    @router.post("/template-edits/{edit_id}/undo", summary="Undo a template edit")
    def undo(edit_id: str, body: ActionBody) -> EditModel:
        """Its routes are again what learning and the other edits say."""
        with _telling():
            return EditModel.model_validate(editor.undo(edit_id, by=body.by))

    @router.post("/endpoints/{endpoint_id}/rename", summary="Rename a parameter of a template")
    def rename(endpoint_id: str, body: RenameBody) -> EditModel:
        """The endpoint keeps its template from then on, as if it were pinned."""
        with _telling():
            return EditModel.model_validate(editor.rename(endpoint_id, place=body.place, name=body.name, by=body.by))

    @router.post("/endpoints/{endpoint_id}/split", summary="Give one value an endpoint of its own")
    def split(endpoint_id: str, body: SplitBody) -> EditModel:
        """Of words whose text is known."""
        with _telling():
            return EditModel.model_validate(editor.split(endpoint_id, place=body.place, value=body.value, by=body.by))

    @router.post("/endpoints/{endpoint_id}/keep-host", summary="Keep hosts apart that were taken for one")
    def keep_host(endpoint_id: str, body: HostBody) -> EditModel:
        """One host, or all that its pattern (`{tenant}.example.com`) stands for."""
        with _telling():
            return EditModel.model_validate(editor.keep_host(endpoint_id, host=body.host, by=body.by))

    @router.post("/endpoints/{endpoint_id}/pin", summary="Pin an endpoint's template")
    def pin(endpoint_id: str, body: ActionBody) -> EditModel:
        """Nothing that is learned later changes it."""
        with _telling():
            return EditModel.model_validate(editor.pin(endpoint_id, by=body.by))

    return router


@contextmanager
def _telling() -> Iterator[None]:
    try:
        yield
    except EditError as error:
        raise Problem(422, str(error)) from error
