"""/calls: calls by minute or hour of one endpoint, one caller, or both."""

from typing import Annotated

from fastapi import APIRouter, Query

from collector.api.call_models import CallPageModel, view_calls
from collector.api.parameters import CallParameters
from collector.api.problem import Problem, refuse_cursor, show
from collector.inventory.calls import CallInventory, Resolution
from collector.inventory.consumer import ConsumerError
from collector.inventory.cursor import CursorError


def build_call_routes(*, calls: CallInventory) -> APIRouter:
    """Routes that read calls by time."""
    router = APIRouter(prefix="/calls", tags=["inventory"])

    @router.get("", summary="List calls by minute or hour")
    def list_calls(parameters: Annotated[CallParameters, Query()]) -> CallPageModel:
        """Rows with calls of an endpoint, a consumer or an address, or of all that are given at once, as the detectors
        count them: those that a server's sensor saw, proxies aside."""
        if not (parameters.endpoint or parameters.consumer or parameters.address):
            raise Problem(422, "No endpoint, consumer or address is named; name at least one of them.")
        if parameters.software and parameters.resolution is not Resolution.MINUTE:
            raise Problem(422, "Rows of hours know no client software; use the resolution 'minute'.")
        if parameters.end <= parameters.start:
            raise Problem(422, f"The parameter 'end' is {show(str(parameters.end))}; use a time after 'start'.")
        try:
            question = parameters.question()
            return view_calls(calls.list_calls(question), question.resolution)
        except CursorError as error:
            raise refuse_cursor(parameters.cursor, error) from error
        except ConsumerError as error:
            raise Problem(422, f"{str(error)[0].upper()}{str(error)[1:]}.") from error

    return router
