"""/audit: who decided what, and whether an entry of that is changed or missing. For an admin."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from collector.api.base_model import Model, Time
from collector.api.parameters import AskedTime, NoParameters
from collector.api.users import require_admin
from collector.inventory.filters import Parameters, Text
from collector.trust.audit import AuditFilters, AuditLog


class AuditQuery(Parameters):
    """Which entries."""

    actor: Text = Field(default="", max_length=300, description="By exactly this actor.", examples=["token:ci"])
    action: Text = Field(
        default="", max_length=64, description="One action, or the first word of several.", examples=["token"]
    )
    target: Text = Field(default="", max_length=300, description="What was decided on holds this text.")
    start: AskedTime | None = Field(default=None, description="From this time on.")
    end: AskedTime | None = Field(default=None, description="Before this time.")
    before: int = Field(
        default=0, ge=0, le=2**53, description="Entries with a smaller number than this, for the next page."
    )
    limit: int = Field(default=100, ge=1, le=1_000)

    def list_filters(self) -> AuditFilters:
        """As the log takes them."""
        return AuditFilters(
            actor=self.actor,
            action=self.action,
            target=self.target,
            start=self.start.timestamp() if self.start else 0.0,
            end=self.end.timestamp() if self.end else 0.0,
        )


class AuditLineModel(Model):
    """One entry."""

    number: int
    time: Time
    by: str
    way: str = Field(description="How who decided had shown who that is; empty of the collector itself.")
    action: str
    target: str
    block_id: str
    why: str
    before: str = Field(description="JSON; empty where there is nothing to show.")
    after: str
    hash: str = Field(description="Over this entry and the hash of the one before; empty of an earlier version.")
    is_erased: bool = Field(description="Whether a name was blanked in it.")


class AuditPageModel(Model):
    """Entries, the newest first."""

    items: tuple[AuditLineModel, ...]


class AuditCheckModel(Model):
    """What became of the chain."""

    fault: str = Field(description="The first entry that is changed or missing; empty where there is no such entry.")
    entries: int
    first: int
    last: int
    last_hash: str = Field(description="Keep it elsewhere: a chain that is made anew has another one.")
    unchained: int = Field(description="Entries of an earlier version, which had no chain.")
    erased: int = Field(description="Entries in which a name was blanked.")


def build_audit_routes(*, audit: AuditLog) -> APIRouter:
    """Routes that read the log."""
    router = APIRouter(prefix="/audit", tags=["users"])

    @router.get("", summary="List the audit log")
    def list_entries(query: Annotated[AuditQuery, Query()]) -> AuditPageModel:
        """Who decided what, the newest first. For an admin."""
        require_admin()
        found = audit.list_lines(query.list_filters(), limit=query.limit, before=query.before)
        return AuditPageModel(items=tuple(AuditLineModel.model_validate(one) for one in found))

    @router.get("/check", summary="Check the audit log")
    def check_entries(_: Annotated[NoParameters, Query()]) -> AuditCheckModel:
        """Follows the chain of hashes from the first entry to the last. For an admin."""
        require_admin()
        return AuditCheckModel.model_validate(audit.check())

    return router
