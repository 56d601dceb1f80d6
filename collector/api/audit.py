"""/audit: who decided what, and whether an entry of that is changed or missing. For an admin."""

from collections.abc import Callable, Sequence
from typing import Annotated, Final

from fastapi import APIRouter, Query
from pydantic import Field

from collector.api.base_model import Model, Time
from collector.api.parameters import NoParameters
from collector.api.users import require_admin
from collector.core.moments import MOMENT_CHARACTERS_MAX, MOMENT_EXAMPLES, MOMENT_FORMS, read_moment
from collector.inventory.filters import Filter, ListQuery, Moment, Text
from collector.inventory.query import Cursor, CursorError
from collector.trust.audit import AuditFilters, AuditLine, AuditLog

_NUMBER_MAX: Final = 2**63 - 1  # What a database takes.


class AuditQuery(ListQuery):
    """Which entries."""

    actor: Annotated[Text, Filter(None, title="Who")] = Field(
        default="", max_length=300, description="By exactly this actor.", examples=["token:ci"]
    )
    action: Annotated[Text, Filter(None, title="Decision")] = Field(
        default="", max_length=64, description="One action, or the first word of several.", examples=["token"]
    )
    target: Annotated[Text, Filter(None, title="On what")] = Field(
        default="", max_length=300, description="What was decided on holds this text."
    )
    start: Annotated[Moment, Filter(None, title="Since", is_moment=True)] = Field(
        default="",
        max_length=MOMENT_CHARACTERS_MAX,
        description=f"From this time on: {MOMENT_FORMS}.",
        examples=list(MOMENT_EXAMPLES),
    )
    end: Annotated[Moment, Filter(None, title="Before", is_moment=True)] = Field(
        default="",
        max_length=MOMENT_CHARACTERS_MAX,
        description="Before this time, as in `start`.",
        examples=["1h", "today", "2026-11-29T15:00:00Z"],
    )

    def select(self, now: float) -> AuditFilters:
        """As the log takes it; `now` is what relative times are before, in unix seconds."""
        return AuditFilters(
            actor=self.actor,
            action=self.action,
            target=self.target,
            start=float(read_moment(self.start, now)) if self.start else 0.0,
            end=float(read_moment(self.end, now)) if self.end else 0.0,
        )


def read_audit(query: AuditQuery, audit: AuditLog, now: float) -> tuple[Sequence[AuditLine], str | None]:
    """One page, the newest first, and the cursor of the next; None where it is the last. Raises CursorError."""
    after = query.read_cursor(float)
    before = 0 if after is None else int(after.value)
    if after is not None and not 0 < before <= _NUMBER_MAX:
        raise CursorError("it is not a cursor this collector gave")
    found = audit.list_lines(query.select(now), limit=query.limit + 1, before=before)
    return query.cut(found, lambda last: Cursor(value=float(last.number), id=""))


class AuditLineModel(Model):
    """One entry."""

    number: int
    time: Time
    by: str
    way: str = Field(description="How who decided had shown who that is; empty of the collector itself.")
    action: str
    target: str
    block_id: str = Field(description="Of a decision on a block; of what a sensor reports, the id of that.")
    why: str
    before: str = Field(description="JSON; empty where there is nothing to show.")
    after: str
    hash: str = Field(description="Over this entry and the hash of the one before; empty of an earlier version.")
    is_erased: bool = Field(description="Whether a name was blanked in it.")


class AuditPageModel(Model):
    """Entries, the newest first."""

    items: tuple[AuditLineModel, ...]
    next_cursor: str | None


class AuditCheckModel(Model):
    """What became of the chain."""

    fault: str = Field(description="The first entry that is changed or missing; empty where there is no such entry.")
    entries: int
    first: int
    last: int
    last_hash: str = Field(description="Keep it elsewhere: a chain that is made anew has another one.")
    unchained: int = Field(description="Entries of an earlier version, which had no chain.")
    erased: int = Field(description="Entries in which a name was blanked.")


def build_audit_routes(*, audit: AuditLog, clock: Callable[[], float]) -> APIRouter:
    """Routes that read the log."""
    router = APIRouter(prefix="/audit", tags=["users"])

    @router.get("", summary="List the audit log")
    def list_entries(query: Annotated[AuditQuery, Query()]) -> AuditPageModel:
        """Who decided what, the newest first. For an admin."""
        require_admin()
        shown, next_cursor = read_audit(query, audit, clock())
        return AuditPageModel(items=tuple(AuditLineModel.model_validate(one) for one in shown), next_cursor=next_cursor)

    @router.get("/check", summary="Check the audit log")
    def check_entries(_: Annotated[NoParameters, Query()]) -> AuditCheckModel:
        """Follows the chain of hashes from the first entry to the last. For an admin."""
        require_admin()
        return AuditCheckModel.model_validate(audit.check())

    return router
