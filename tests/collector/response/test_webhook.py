"""The webhook for blocks: signed, retried, once each, in the audit log, and told after a restart what was not."""

import json
from collections.abc import Callable
from dataclasses import replace

import httpx
import pytest

from collector.alerting.notifiers import delivery
from collector.alerting.notifiers.http import sign
from collector.receiver.policy import BlockKind
from collector.response.block import Block, BlockState, BlockTarget
from collector.response.integrations import BlockWebhook
from collector.trust.audit import AuditEntry
from tests.waiting import wait_until

SECRET, NOW = "webhook-secret", 1_700_000_000.0
BLOCK = Block(
    id="b1",
    target=BlockTarget(kind=BlockKind.ADDRESS, value="203.0.113.7"),
    key_id=0,
    credentials=(),
    services=("shop/cart:8080",),
    seconds=600,
    state=BlockState.LIVE,
    reason="reads every account",
    alert_id="a1",
    proposed_by="ada",
    proposed_at=NOW,
    approved_by="ada",
    began_at=NOW,
    expires_at=NOW + 600,
)


class Receiver:
    """Answers with these statuses, the last again and again."""

    def __init__(self, *statuses: int) -> None:
        self._statuses = list(statuses)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return httpx.Response(self._statuses.pop(0) if len(self._statuses) > 1 else self._statuses[0])


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[BlockWebhook, Receiver, list[AuditEntry]]]:
    monkeypatch.setattr(delivery, "FIRST_RETRY_SECONDS", 0.0)

    def build(*statuses: int) -> tuple[BlockWebhook, Receiver, list[AuditEntry]]:
        receiver, audit = Receiver(*statuses), list[AuditEntry]()
        hook = BlockWebhook(
            "https://hooks.example/secret-path",
            SECRET,
            note=audit.append,
            clock=lambda: NOW,
            transport=httpx.MockTransport(receiver),
        )
        return hook, receiver, audit

    return build


Make = Callable[..., tuple[BlockWebhook, Receiver, list[AuditEntry]]]


def test_a_decision_is_signed_and_audited(make: Make) -> None:
    hook, receiver, audit = make(204)
    assert hook.deliver("began", BLOCK)
    (request,) = receiver.requests
    timestamp = request.headers["x-apidae-timestamp"]
    assert request.headers["x-apidae-signature"] == sign(SECRET, timestamp, request.content)
    assert request.headers["x-apidae-delivery"] == "b1.began"
    body = json.loads(request.content)
    assert (body["event"], body["consumer"], body["by"]) == ("began", "address:203.0.113.7", "ada")
    assert (body["services"], body["expires_at"]) == (["shop/cart:8080"], NOW + 600)
    (entry,) = audit
    assert (entry.action, entry.block_id, entry.why) == ("told", "b1", "began")
    assert "secret-path" not in entry.by


@pytest.mark.parametrize(
    ("statuses", "attempts", "is_there"), [((503, 429, 200), 3, True), ((500,), 5, False), ((403,), 1, False)]
)
def test_it_is_tried_again_where_that_helps(
    make: Make, statuses: tuple[int, ...], attempts: int, is_there: bool
) -> None:
    hook, receiver, audit = make(*statuses)
    assert hook.deliver("began", BLOCK) is is_there
    assert len(receiver.requests) == attempts
    assert len({request.headers["x-apidae-delivery"] for request in receiver.requests}) == 1
    assert [entry.action for entry in audit] == ["told" if is_there else "untold"]
    assert (hook.counts.delivered, hook.counts.failed) == (int(is_there), int(not is_there))


def test_each_decision_is_told_once(make: Make) -> None:
    hook, _, _ = make(200)
    for action in ("began", "began", "lifted", "declined"):
        hook.take(action, BLOCK)
    assert (hook.counts.seen, hook.counts.repeated, hook.waiting) == (3, 1, 2)


def test_what_is_live_and_was_not_told_is_told_after_a_start(make: Make) -> None:
    hook, receiver, _ = make(200)
    over = replace(BLOCK, id="b3", state=BlockState.LIFTED)
    hook.resume([BLOCK, replace(BLOCK, id="b2"), over], {("b1", "began")})
    hook.start()
    wait_until(lambda: hook.counts.delivered == 1, "it is sent")
    hook.stop()
    assert [json.loads(request.content)["id"] for request in receiver.requests] == ["b2"]


def test_an_end_that_was_not_told_is_told_after_a_start_to_who_knows_the_block(make: Make) -> None:
    lifted, ended = replace(BLOCK, state=BlockState.LIFTED), replace(BLOCK, id="b2", state=BlockState.EXPIRED)
    lifted, never = replace(lifted, ended_at=NOW + 1), replace(lifted, id="b3")
    rejected = replace(BLOCK, id="b4", state=BlockState.REJECTED, ended_at=NOW + 2)
    waits = replace(BLOCK, id="b5", state=BlockState.PROPOSED)
    before, _, audit = make(200)
    for action, block in (("began", lifted), ("began", ended), ("expired", ended), ("proposed", rejected)):
        assert before.deliver(action, block)
    assert before.deliver("proposed", waits)
    before.take("lifted", lifted)
    before.stop()  # It waited still.
    hook, receiver, _ = make(200)
    hook.resume([waits, rejected, never, ended, lifted], {(entry.block_id, entry.why) for entry in audit})
    hook.start()
    wait_until(lambda: hook.counts.delivered == 2, "both are sent")
    hook.stop()
    told = [(body["id"], body["event"]) for body in map(json.loads, (one.content for one in receiver.requests))]
    assert told == [("b1", "lifted"), ("b4", "rejected")]


def test_it_is_delivered_by_its_thread(make: Make) -> None:
    hook, receiver, _ = make(200)
    hook.start()
    hook.take("began", BLOCK)
    hook.take("lifted", replace(BLOCK, state=BlockState.LIFTED, ended_by="bob"))
    wait_until(lambda: hook.counts.delivered == 2, "both are sent")
    hook.stop()
    assert [json.loads(request.content)["event"] for request in receiver.requests] == ["began", "lifted"]


def test_an_address_that_is_not_safe_is_refused() -> None:
    with pytest.raises(ValueError, match="neither https nor http on loopback"):
        BlockWebhook("http://hooks.example/", SECRET, note=lambda entry: None, clock=lambda: NOW)
