"""/notifiers: where alerts are sent, the counts of each notifier, and a test alert."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from collector.alerting.notifiers.delivery import MEANINGS, DeliveryOutcome, Notifier, try_notifier
from collector.api.base_model import Model
from collector.api.parameters import ActionBody, NoParameters
from collector.api.problem import Problem, show
from collector.trust.audit import AuditLog


class FeedModel(Model):
    """Entries of the audit log since the start."""

    delivered: int
    filtered: int = Field(description="Not of its `audit`.")
    failed: int = Field(description="Refused for an hour.")
    lost: int = Field(description="Deleted for their age before the receiver took them.")
    retried: int = Field(description="Attempts at a batch that were repeated.")


class NotifierModel(Model):
    """One notifier. seen = delivered + failed + filtered + quiet + dropped + limited + repeated + waiting."""

    name: str
    target: str = Field(description="Scheme, host and port.")
    seen: int
    delivered: int
    failed: int = Field(description="Given up after five attempts, or refused.")
    filtered: int = Field(description="Not of its severity, kinds, services or namespaces.")
    quiet: int = Field(description="Of quiet hours: closed or replaced before these ended.")
    dropped: int = Field(description="The queue of 1,000 was full.")
    limited: int = Field(description="Past 60 a minute; alerts of high severity and closings never are.")
    repeated: int = Field(description="Nothing new in it, where a notifier takes changes only.")
    retried: int
    waiting: int = Field(description="Those that quiet hours hold included.")
    last_outcome: DeliveryOutcome | None
    audit: FeedModel | None = Field(description="Of entries of the audit log; null where it gets none.")


class NotifierListModel(Model):
    """Those that the settings name."""

    items: tuple[NotifierModel, ...]


class NotifierTestModel(Model):
    """What became of a test."""

    outcome: DeliveryOutcome
    meaning: str


def build_notifier_routes(*, notifiers: Sequence[Notifier], audit: AuditLog, clock: Callable[[], float]) -> APIRouter:
    """Routes that list notifiers and test them."""
    router = APIRouter(prefix="/notifiers", tags=["alerts"])

    @router.get("", summary="List notifiers")
    def list_notifiers(_: Annotated[NoParameters, Query()]) -> NotifierListModel:
        """Those that the settings name."""
        return NotifierListModel(items=tuple(_view(notifier) for notifier in notifiers))

    @router.post("/{name}/test", summary="Test a notifier")
    def test_notifier(name: str, body: ActionBody) -> NotifierTestModel:
        """Send it a test alert, once, and say what became of it. Waits for the answer, 5 s at the most."""
        outcome = try_notifier(notifiers, name, by=body.by, now=clock(), audit=audit)
        if outcome is None:
            known = ", ".join(notifier.name for notifier in notifiers) or "none is set"
            raise Problem(404, f"There is no notifier {show(name)}; it may be: {known}.")
        return NotifierTestModel(outcome=outcome, meaning=MEANINGS[outcome])

    return router


def _view(notifier: Notifier) -> NotifierModel:
    own = {name: getattr(notifier, name) for name in ("name", "target", "waiting", "last_outcome")}
    feed = notifier.feed
    counts = {} if feed is None else {name.removeprefix("audit_"): value for name, value in feed.count().items()}
    return NotifierModel.model_validate({**asdict(notifier.counts), **own, "audit": counts or None})
