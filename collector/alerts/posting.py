"""A carrier that posts one body an alert: what Slack, Teams, PagerDuty, OTLP, OCSF and templates have alike. EDGE:
HTTP.

They differ in the body alone, which a pure function writes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import httpx

from collector.alerts.alert import Alert
from collector.alerts.delivery import Outcome
from collector.alerts.web import make_client, post, show_target

JSON = "application/json"


class UnwritableError(Exception):
    """No body could be made of an alert; one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """Where bodies go and how they look."""

    name: str  # Of the notifier.
    url: str = field(repr=False)
    write: Callable[[Alert], bytes]  # May raise UnwritableError.
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    is_taken: Callable[[bytes], bool] | None = None  # Judges the body of an answer that says yes.


class Posting:
    """A carrier."""

    takes_updates = False

    def __init__(self, form: Form, *, transport: httpx.BaseTransport | None = None) -> None:
        """`transport` replaces the network in tests."""
        self.name = form.name
        self.target = show_target(form.url)
        self._form = form
        self._client = make_client(transport)

    def send(self, alert: Alert) -> Outcome:
        """One POST."""
        form = self._form
        try:
            body = form.write(alert)
        except UnwritableError:
            return Outcome.REFUSED
        return post(self._client, form.url, body, {"content-type": form.content_type, **form.headers}, form.is_taken)

    def close(self) -> None:
        """Let the connection go."""
        self._client.close()
