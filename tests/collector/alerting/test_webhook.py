"""The webhook against a transport in memory: signature, retries, refusals, the full queue."""

import hashlib
import hmac
import json
from dataclasses import replace

import httpx
import pytest
from pydantic import SecretStr

from collector.alerting.alert import Alert
from collector.alerting.notifiers import delivery
from collector.alerting.notifiers.build import build_notifiers, write_alert
from collector.alerting.notifiers.delivery import RETRY_SECONDS, DeliveryOutcome, Notifier
from collector.alerting.notifiers.http import HttpSender, check_address, sign_headers
from collector.alerting.notifiers.outbox import Outbox
from collector.core.destinations import WebhookNotifier
from collector.storage.state.store import StateStore
from tests.collector.alerting.outboxes import Clock, add, deliver_all
from tests.collector.alerting.test_lifecycle import make_lifecycle, make_report


def make_alert() -> Alert:
    alert = make_lifecycle().take(make_report(), 0)
    assert alert is not None
    return alert


def make_webhook(state: StateStore, clock: Clock, statuses: list[int]) -> tuple[Notifier, list[httpx.Request]]:
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(statuses[len(requests) - 1])

    sender = HttpSender(
        "webhook",
        "https://hooks.test/x",
        write_alert,
        make_headers=lambda body: sign_headers("s3cret", 1_000.0, body),
        takes_updates=True,
        transport=httpx.MockTransport(answer),
    )
    return Notifier(sender, Outbox(state, "webhook"), clock=clock), requests


def test_body_is_signed(sqlite_state: StateStore) -> None:
    hook, requests = make_webhook(sqlite_state, Clock(1_000.0), [200])
    assert hook.attempt(make_alert()) is DeliveryOutcome.DELIVERED
    body = requests[0].content
    expected = hmac.new(b"s3cret", b"1000." + body, hashlib.sha256).hexdigest()
    assert requests[0].headers["x-apidae-signature"] == f"sha256={expected}"
    assert b'"id":"a1"' in body
    hook.stop()


def test_routes_are_named_as_in_the_api(sqlite_state: StateStore) -> None:
    """As numbers they would be rounded by readers that have 53 bits."""
    hook, requests = make_webhook(sqlite_state, Clock(1_000.0), [200])
    assert hook.attempt(replace(make_alert(), route_ids=(5, 2**63 + 5))) is DeliveryOutcome.DELIVERED
    hook.stop()
    assert json.loads(requests[0].content)["route_ids"] == ["0000000000000005", "8000000000000005"]


@pytest.mark.parametrize(
    ("statuses", "delivered", "tries"), [([503, 503, 200], 1, 3), ([500] * 5, 0, 5), ([404], 0, 1), ([302] * 5, 0, 5)]
)
def test_retries_what_may_pass_and_counts(state: StateStore, statuses: list[int], delivered: int, tries: int) -> None:
    clock = Clock(1_000.0)
    hook, requests = make_webhook(state, clock, statuses)
    add(hook, state, make_alert())
    deliver_all(hook, clock)
    assert (hook.counts.delivered, hook.counts.failed, len(requests)) == (delivered, 1 - delivered, tries)
    assert (hook.counts.seen, hook.counts.retried, hook.waiting) == (1, tries - 1, 0)
    assert clock.now == 1_000.0 + sum(RETRY_SECONDS[: tries - 1])
    assert len({request.headers["x-apidae-delivery"] for request in requests}) == 1
    hook.stop()


def test_a_full_outbox_drops_and_counts(state: StateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "QUEUE_MAX", 3)
    hook, _ = make_webhook(state, Clock(1_000.0), [])
    for _ in range(5):
        add(hook, state, make_alert())
    assert (hook.counts.seen, hook.counts.dropped, hook.waiting) == (5, 2, 3)
    hook.stop()


@pytest.mark.parametrize("url", ["http://10.0.0.1/x", "ftp://h/x", "https://", "http://127.0.0.1.evil.test/"])
def test_clear_text_off_loopback_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="https"):
        check_address(url, "webhook")


@pytest.mark.parametrize("url", ["https://h/x", "http://127.0.0.1:1/x", "http://[::1]/x", "http://localhost/x"])
def test_https_and_loopback_are_accepted_and_the_secret_is_not_shown(sqlite_state: StateStore, url: str) -> None:
    settings = (WebhookNotifier(kind="webhook", url=SecretStr(url)),)
    made = build_notifiers(
        settings,
        state=sqlite_state,
        cluster="",
        load_secret=lambda: "s3cret",
        version="0.1.0",
        time_zone="UTC",
        clock=lambda: 1_000.0,
    )
    assert "s3cret" not in repr(made) and made.members[0].name == "webhook"
