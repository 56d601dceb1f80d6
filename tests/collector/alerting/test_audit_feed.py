"""Entries of the audit log reach a notifier in their order, in batches, each once, also after failures and a kill."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import pytest
from sqlalchemy import delete, select

from collector.alerting.notifiers import audit_feed
from collector.alerting.notifiers.audit_feed import LOOK_SECONDS, REFUSED_MAX, RETRY_SECONDS, AuditFeed
from collector.alerting.notifiers.build import Notifiers
from collector.alerting.notifiers.delivery import DeliveryOutcome
from collector.alerting.notifiers.syslog import SyslogSettings, write_entry
from collector.core.destinations import SyslogFormat
from collector.storage.base import StoreError
from collector.storage.state.store import StateStore
from collector.storage.state.tables.notifications import AUDIT_FEEDS
from collector.storage.state.tables.trust import AUDIT_ENTRIES
from collector.trust.audit import AuditLine, AuditLog, erase_mentions, make_entry
from tests.collector.alerting.outboxes import Clock
from tests.collector.alerting.receivers import receive
from tests.collector.alerting.test_receivers import open_notifier
from tests.waiting import wait_until

DELIVERED, UNANSWERED, REFUSED = DeliveryOutcome.DELIVERED, DeliveryOutcome.UNANSWERED, DeliveryOutcome.REFUSED


@dataclass
class Desk:
    """A log, a feed of it, and a receiver that answers as the test says."""

    state: StateStore
    clock: Clock = field(default_factory=lambda: Clock(1_000.0))
    outcome: DeliveryOutcome = DELIVERED
    batches: list[tuple[str, list[int]]] = field(default_factory=list)
    feed: AuditFeed = field(init=False)

    def __post_init__(self) -> None:
        self.start()
        assert self.look() == LOOK_SECONDS

    def start(self, *actions: str) -> None:
        """Anew, as after a kill."""
        self.feed = AuditFeed(self.state, "siem", actions or ("*",), self.clock)

    def write(self, *actions: str, target: str = "t") -> None:
        for action in actions:
            AuditLog(self.state).add(make_entry(self.clock.now, "ada", action, target))

    def send(self, entries: Sequence[AuditLine], key: str) -> DeliveryOutcome:
        self.batches.append((key, [entry.number for entry in entries]))
        return self.outcome

    def look(self) -> float:
        return self.feed.deliver_next(self.send)

    def look_all(self) -> None:
        """Until nothing is left to be sent."""
        while (pause := self.look()) != LOOK_SECONDS:
            self.clock.now += pause


@pytest.fixture
def desk(state: StateStore) -> Desk:
    AuditLog(state).add(make_entry(1.0, "ada", "token.created", "earlier"))
    return Desk(state)


def test_a_new_notifier_gets_what_is_written_from_then_on(desk: Desk) -> None:
    desk.write("token.created", "alert.mute")
    desk.look_all()
    assert desk.batches == [("audit-2-3", [2, 3])]
    desk.start()
    desk.look_all()
    assert desk.batches == [("audit-2-3", [2, 3])]
    assert desk.feed.counts == audit_feed.FeedCounts()


def test_it_gets_the_actions_that_it_chose_and_the_others_are_counted(desk: Desk) -> None:
    desk.start("token.*", "export.*")
    desk.write("alert.mute", "token.created", "export.list", "label.set")
    desk.look_all()
    assert [numbers for _, numbers in desk.batches] == [[3, 4]]
    assert (desk.feed.counts.audit_delivered, desk.feed.counts.audit_filtered) == (2, 2)
    desk.write("alert.mute")
    desk.look_all()
    assert len(desk.batches) == 1 and desk.feed.counts.audit_filtered == 3


def test_batches_are_bounded_by_entries_and_by_size(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_feed, "BATCH_ENTRIES_MAX", 3)
    monkeypatch.setattr(audit_feed, "BATCH_CHARACTERS_MAX", 100)
    desk.write(*["a.b"] * 5)
    desk.write("a.b", "a.b", target="x" * 300)
    desk.look_all()
    assert [numbers for _, numbers in desk.batches] == [[2, 3, 4], [5, 6], [7], [8]]


def test_a_receiver_that_is_away_gets_everything_when_it_is_back(desk: Desk) -> None:
    desk.write("a.b")
    desk.outcome = UNANSWERED
    pauses = []
    for _ in range(6):
        pauses.append(desk.look())
        assert desk.look() == pauses[-1], "not before its time"
        desk.clock.now += pauses[-1]
    assert pauses == [*RETRY_SECONDS, RETRY_SECONDS[-1], RETRY_SECONDS[-1]]
    desk.write("a.c")
    desk.outcome = DELIVERED
    desk.look_all()
    assert desk.batches == [("audit-2-2", [2])] * 7 + [("audit-3-3", [3])]
    assert (desk.feed.counts.audit_delivered, desk.feed.counts.audit_retried) == (2, 6)


def test_what_is_refused_for_an_hour_is_counted_and_the_next_is_sent(desk: Desk) -> None:
    desk.write("a.b")
    desk.outcome = REFUSED
    for _ in range(REFUSED_MAX - 1):
        desk.clock.now += desk.look()
    assert desk.feed.counts.audit_failed == 0
    assert desk.look() == 0 and desk.feed.counts.audit_failed == 1
    desk.outcome = DELIVERED
    desk.write("a.c")
    desk.look_all()
    assert desk.batches[-1] == ("audit-3-3", [3]) and len(desk.batches) == REFUSED_MAX + 1


def test_a_batch_that_a_kill_cut_off_is_sent_again_as_it_was(desk: Desk) -> None:
    desk.write("a.b", "a.c")

    def be_killed(entries: Sequence[AuditLine], key: str) -> DeliveryOutcome:
        desk.batches.append((key, [entry.number for entry in entries]))
        raise StoreError("killed")

    with pytest.raises(StoreError):
        desk.feed.deliver_next(be_killed)
    desk.write("a.d")
    desk.start()
    desk.look_all()
    assert desk.batches == [("audit-2-3", [2, 3]), ("audit-2-3", [2, 3]), ("audit-4-4", [4])]


def test_an_erasure_reaches_what_waits(desk: Desk) -> None:
    desk.write("label.set", target="address:10.0.0.9")
    with desk.state.write() as connection:
        erase_mentions(connection, re.compile("10.0.0.9"), make_entry(5.0, "ada", "erased", "address:erased"))
    sent: list[AuditLine] = []

    def send(entries: Sequence[AuditLine], key: str) -> DeliveryOutcome:
        sent.extend(entries)
        return DELIVERED

    desk.feed.deliver_next(send)
    assert [entry.target for entry in sent] == ["address:erased", "address:erased"]


def test_entries_that_went_before_they_were_sent_are_counted(desk: Desk) -> None:
    desk.write("a.b", "a.c", "a.d")
    with desk.state.write() as connection:
        connection.execute(delete(AUDIT_ENTRIES).where(AUDIT_ENTRIES.c.number < 4))
    desk.look_all()
    assert desk.batches == [("audit-4-4", [4])] and desk.feed.counts.audit_lost == 2


def test_a_state_from_a_backup_begins_where_it_ends(desk: Desk) -> None:
    desk.write("a.b", "a.c")
    desk.look_all()
    with desk.state.write() as connection:
        connection.execute(delete(AUDIT_ENTRIES).where(AUDIT_ENTRIES.c.number > 1))
    desk.look_all()
    desk.write("a.d")
    desk.look_all()
    assert desk.batches[-1] == ("audit-2-2", [2])


ENTRY: AuditLine = AuditLine(
    number=7,
    time=1_700_000_000.0,
    by="oidc:ada",
    way="oidc",
    action="label.set",
    target='a "quoted" ] = | name',
    why="two\nlines",
    before="",
    after='{"name":"x"}',
    hash="h" * 64,
    is_erased=False,
)


@pytest.mark.parametrize("kind", ["webhook", "otlp"])
def test_receivers_of_json_get_a_batch_that_they_take(kind: str) -> None:
    with receive("otlp" if kind == "otlp" else "ocsf") as receiver:
        receiver.validator = receiver.validator if kind == "otlp" else None
        settings: dict[str, Any] = {"kind": kind, "url": receiver.url, "audit": ["*"]}
        notifier = open_notifier(cluster="east", **settings)
        assert notifier.feed is not None
        assert notifier.send_entries([ENTRY, ENTRY], "audit-7-8") is DELIVERED, receiver.refused
        notifier.stop()
    (body,) = receiver.taken
    if kind == "webhook":
        assert body == {"audit": [msgspec.to_builtins(ENTRY)] * 2}
        assert receiver.headers[0]["x-apidae-delivery"] == "audit-7-8"
        assert receiver.headers[0]["x-apidae-signature"].startswith("sha256=")
    else:
        first, _ = body["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
        attributes = {one["key"]: one["value"] for one in first["attributes"]}
        assert attributes["apidae.audit.number"] == {"intValue": "7"}
        assert attributes["user.name"] == {"stringValue": "oidc:ada"}
        assert attributes["apidae.audit.target"] == {"stringValue": ENTRY.target}


def test_slack_gets_a_block_an_entry_and_how_many_more_there_are() -> None:
    with receive("slack") as receiver:
        notifier = open_notifier(kind="slack", url=receiver.url, audit=["*"])
        long = replace(ENTRY, number=100, after="x" * 4_000)
        for count in (1, 48, 49, 100):
            batch = [*[ENTRY] * (count - 1), long]
            assert notifier.send_entries(batch, "k") is DELIVERED, receiver.refused
        notifier.stop()
    blocks = [body["blocks"] for body in receiver.taken]
    assert [len(one) for one in blocks] == [2, 49, 50, 50]
    assert blocks[1][1]["text"]["text"].startswith('7. oidc:ada: label.set a "quoted" ] = | name (two\nlines) after {')
    assert blocks[3][-1]["elements"][0]["text"] == "52 more, up to number 100; the page Audit log has them."


def test_syslog_has_one_line_an_entry() -> None:
    plain = write_entry(ENTRY, SyslogSettings(url="udp://h", host_name="c", version="1")).decode()
    assert plain.startswith('<37>1 2023-11-14T22:13:20.000Z c apidae - audit [audit@32473 number="7" by="oidc:ada"')
    assert r'target="a \"quoted\" \] = | name"' in plain and "\n" not in plain
    assert plain.endswith("oidc:ada: label.set " + ENTRY.target)
    cef = write_entry(ENTRY, SyslogSettings(url="udp://h", format=SyslogFormat.CEF, version="1")).decode()
    assert "CEF:0|Apidae|Apidae|1|audit.label.set|Audit log|3|externalId=7 cat=audit act=label.set" in cef
    assert r"cs1=a \"quoted\" ] \= | name".replace('\\"', '"') in cef and "cs1Label=target" in cef


def test_only_kinds_that_take_entries_have_the_setting() -> None:
    assert open_notifier(kind="syslog", url="udp://h").feed is None
    with pytest.raises(ValueError, match="audit"):
        open_notifier(kind="teams", url="https://h/x", audit=["*"])


def test_a_notifier_that_runs_sends_what_is_written(state: StateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_feed, "LOOK_SECONDS", 0.02)
    with receive("ocsf") as receiver:
        receiver.validator = None
        notifier = open_notifier(state=state, kind="webhook", url=receiver.url, audit=["token.*"])
        notifier.start()
        wait_until(lambda: _has_feed(state))
        for action in ("token.created", "alert.mute", "token.revoked"):
            AuditLog(state).add(make_entry(5.0, "ada", action, "ci"))
        wait_until(lambda: sum(len(body["audit"]) for body in receiver.taken) == 2)
        wait_until(lambda: notifier.feed.counts.audit_filtered == 1)  # type: ignore[union-attr]
        notifier.stop()
    assert [one["action"] for body in receiver.taken for one in body["audit"]] == ["token.created", "token.revoked"]
    figures = {one.name: one.value for one in Notifiers((notifier,)).figures() if one.name.startswith("notifier_audit")}
    assert (figures["notifier_audit_delivered"], figures["notifier_audit_filtered"]) == (2, 1)


def _has_feed(state: StateStore) -> bool:
    with state.read() as connection:
        return connection.execute(select(AUDIT_FEEDS)).first() is not None
