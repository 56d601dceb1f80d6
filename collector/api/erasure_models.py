"""What the API says of erasures, and what it takes."""

from pydantic import Field

from collector.api.base_model import Model
from collector.api.parameters import ActionBody, Text


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
