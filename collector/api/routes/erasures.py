"""/erasures: one consumer out of all that this collector keeps."""

from fastapi import APIRouter

from collector.api.erasure_models import ErasureBody, ErasureModel
from collector.api.problem import Problem
from collector.erasure.eraser import Eraser
from collector.inventory.consumer import parse_consumer
from collector.respond.responder import Erasing


def build_erasure_routes(*, eraser: Eraser) -> APIRouter:
    """The one route. It answers when everything is gone, which may take minutes where there is much."""
    router = APIRouter(prefix="/erasures", tags=["privacy"])

    @router.post("", summary="Erase one consumer")
    def erase_consumer(body: ErasureBody) -> ErasureModel:
        """From the log, the tables, alerts, detectors' state, blocks and their audit."""
        try:
            consumer = parse_consumer(body.consumer)
            wish = Erasing(by=body.by, reason=body.reason, lifts_blocks=body.lifts_blocks)
            return ErasureModel.model_validate(eraser.erase(consumer, wish))
        except (OSError, TimeoutError) as error:
            raise Problem(
                503, f"{str(error).rstrip('.')}; what was erased is gone, erase again for the rest."
            ) from error
        except ValueError as error:
            raise Problem(422, f"{str(error)[:1].upper()}{str(error)[1:]}.") from error

    return router
