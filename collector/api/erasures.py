"""/erasures: erases one consumer from everything that this collector keeps."""

from fastapi import APIRouter
from pydantic import Field

from collector.api.base_model import Model
from collector.api.parameters import ActionBody
from collector.api.problem import Problem
from collector.api.services import Erase
from collector.inventory.consumers.consumer import parse_consumer
from collector.inventory.filters import Text
from collector.response.responder import Erasing


class ErasureBody(ActionBody):
    """Whom to erase."""

    consumer: Text = Field(
        min_length=3,
        max_length=600,
        description="As in /consumers: address:.., credential:.., principal:.. or workload:..",
        examples=["principal:9a3c0d4411f0be72"],
    )
    reason: Text = Field(default="", max_length=500, description="For the audit log, where its name is blanked.")
    lifts_blocks: bool = Field(default=False, description="Lift what stops it now, which is refused otherwise.")


class ErasureModel(Model):
    """What was found of it and is gone; all zero where nothing was."""

    rows: dict[str, int] = Field(description="By table: rows deleted, or their texts blanked.")
    log_batches: int
    detector_subjects: int
    alerts: int = Field(description="Open and recent alerts, of those in `rows`.")
    notifications: int = Field(description="That waited to be told, or stood in the file of OCSF findings.")
    blocks: int
    audit_lines: int = Field(description="In which its name was blanked.")


def build_erasure_routes(*, erase: Erase) -> APIRouter:
    """The one route. It answers when everything is gone, which may take minutes where there is much."""
    router = APIRouter(prefix="/erasures", tags=["privacy"])

    @router.post("", summary="Erase one consumer")
    def erase_consumer(body: ErasureBody) -> ErasureModel:
        """From the log, the tables, alerts, detectors' state, blocks and their audit."""
        try:
            consumer = parse_consumer(body.consumer)
            wish = Erasing(by=body.by, reason=body.reason, lifts_blocks=body.lifts_blocks)
            return ErasureModel.model_validate(erase(consumer, wish))
        except (OSError, TimeoutError) as error:
            raise Problem(
                503, f"{str(error).rstrip('.')}; what was erased is gone, erase again for the rest."
            ) from error
        except ValueError as error:
            raise Problem(422, f"{str(error)[:1].upper()}{str(error)[1:]}.") from error

    return router
