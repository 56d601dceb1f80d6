"""Syslog, CEF and Alertmanager against their published formats; no repetition, a rate, and counts that add up."""

import json
import re
import socket
from dataclasses import replace

import httpx
import pytest

from collector.alerting.alert import Alert, AlertKind, AlertState, Confidence, Severity
from collector.alerting.notifiers.build import build_notifiers
from collector.alerting.notifiers.delivery import RATE_A_MINUTE, DeliveryOutcome, Notifier, Sender
from collector.alerting.notifiers.http import HttpSender
from collector.alerting.notifiers.outbox import Outbox
from collector.alerting.notifiers.syslog import SyslogSender, SyslogSettings, write_cef, write_message
from collector.alerting.notifiers.templates import write_json
from collector.core.destinations import AlertmanagerNotifier, SyslogFormat
from collector.storage.state.store import StateStore
from tests.collector.alerting.outboxes import Clock, add, deliver_all
from tests.collector.alerting.test_lifecycle import make_lifecycle, make_report
from tests.waiting import wait_until

HOSTILE = 'a"b]c\\d|e=f\ng'
# RFC 5424 section 6: SYSLOG-MSG = HEADER SP STRUCTURED-DATA [SP MSG].
_NAME = r"[!#-<>-\\^-~]{1,32}"
_VALUE = r'(?:[^"\\\]]|\\["\\\]])*'
RFC5424 = re.compile(
    rf"<(?P<pri>\d{{1,3}})>1 (?P<time>\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{3}}Z) (?P<host>[!-~]{{1,255}}) "
    rf"(?P<app>[!-~]{{1,48}}) (?P<proc>[!-~]{{1,128}}) (?P<id>[!-~]{{1,32}}) "
    rf'(?P<data>-|\[{_NAME}(?: {_NAME}="{_VALUE}")*\])(?: (?P<msg>.*))?\Z',
    re.DOTALL,
)
SETTINGS = SyslogSettings(url="udp://127.0.0.1:5514", host_name="node 1", version="0.1.0")


def make_alert(**fields: object) -> Alert:
    alert = make_lifecycle().take(make_report(AlertKind.ENUMERATION, risk="API1:2023"), 1_700_000_000)
    assert alert is not None
    return replace(alert, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "severity"),
    [
        ({"severity": Severity.HIGH}, 2),
        ({"severity": Severity.LOW}, 5),
        ({"state": AlertState.CLOSED, "severity": Severity.HIGH}, 6),
    ],
)
def test_messages_are_of_rfc_5424_whatever_they_hold(fields: dict[str, object], severity: int) -> None:
    alert = make_alert(title=HOSTILE, consumer=HOSTILE, why="é" * 5_000, **fields)
    message = write_message(alert, SETTINGS).decode("utf-8")
    found = RFC5424.match(message)
    assert found is not None
    assert int(found["pri"]) == 4 * 8 + severity
    assert (found["host"], found["app"], found["id"]) == ("node1", "apidae", "enumeration")
    assert 'consumer="a\\"b\\]c\\\\d|e=f g"' in found["data"]
    assert 'risk="API1:2023"' in found["data"]
    assert (found["msg"][0], "\n" in found["msg"]) == ("\ufeff", False)


def test_cef_has_seven_fields_and_escaped_keys_and_values() -> None:
    alert = make_alert(title=HOSTILE, consumer="address:203.0.113.9", why=HOSTILE, severity=Severity.HIGH, calls=7)
    fields = re.split(r"(?<!\\)\|", write_cef(alert, "0.1.0").replace("\\\\", "\0"), maxsplit=7)
    assert fields[:5] == ["CEF:0", "Apidae", "Apidae", "0.1.0", "enumeration"]
    assert fields[5].replace("\0", "\\").replace("\\|", "|") == 'a"b]c\\d|e=f g'
    assert fields[6] == "9"
    extension = dict(re.findall(r"(\w+)=((?:\\=|[^=])*)(?= \w+=|\Z)", fields[7]))
    assert (extension["src"], extension["cnt"], extension["reason"]) == ("203.0.113.9", "7", "API1:2023")
    assert extension["msg"].replace("\0", "\\").replace("\\=", "=") == 'a"b]c\\d|e=f g'
    assert (extension["cs1"], extension["cs1Label"]) == (alert.incident_id, "incident")
    whole = write_message(alert, replace(SETTINGS, format=SyslogFormat.CEF)).decode()
    found = RFC5424.match(whole)
    assert found is not None and found["data"] == "-" and found["msg"].startswith("CEF:0|Apidae|")


def test_datagrams_and_counted_octets_arrive() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        sender = SyslogSender(replace(SETTINGS, url=f"udp://127.0.0.1:{server.getsockname()[1]}"))
        assert sender.send(make_alert(why="é" * 3_000)) is DeliveryOutcome.DELIVERED
        datagram = server.recv(65_535)
        assert len(datagram) <= 2_048 and RFC5424.match(datagram.decode("utf-8"))
        sender.close()
    ours, theirs = socket.socketpair()
    sender = SyslogSender(replace(SETTINGS, url="tcp://h:1"), connect=lambda *_: ours)
    assert [sender.send(make_alert()), sender.send(make_alert())] == [DeliveryOutcome.DELIVERED] * 2
    length, _, rest = theirs.recv(65_535).partition(b" ")
    assert RFC5424.match(rest[: int(length)].decode())
    assert rest[int(length) :].partition(b" ")[0] == length
    theirs.close()
    while sender.send(make_alert()) is DeliveryOutcome.DELIVERED:  # Until the kernel knows that nobody reads.
        pass
    sender.close()


def test_alertmanager_gets_postable_alerts() -> None:
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200)

    url, write = "http://am:9093/prefix/api/v2/alerts", write_json("alertmanager")
    sender = HttpSender("alertmanager", url, write, transport=httpx.MockTransport(answer))
    opened = make_alert()
    closed = replace(opened, state=AlertState.CLOSED, closed_at=1_700_000_700.0, why="other", severity=Severity.LOW)
    assert [sender.send(opened), sender.send(closed)] == [DeliveryOutcome.DELIVERED] * 2
    assert {str(request.url) for request in requests} == {"http://am:9093/prefix/api/v2/alerts"}
    (first,), (second,) = (json.loads(request.content) for request in requests)
    assert first["labels"] == second["labels"]  # Else Alertmanager would not end the one it has.
    assert all(re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name) for name in (*first["labels"], *first["annotations"]))
    assert (first["startsAt"], first["endsAt"]) == ("2023-11-14T22:13:20.000Z", "2023-11-15T04:13:20.000Z")
    assert second["endsAt"] == "2023-11-14T22:25:00.000Z"
    sender.close()


@pytest.mark.parametrize("url", ["127.0.0.1:514", "udp://", "http://h:514", "tcp://h:99999", "udp://h:514/x"])
def test_no_syslog_address_is_refused_in_words(url: str) -> None:
    with pytest.raises(ValueError, match="use udp://HOST:514"):
        SyslogSettings(url=url)


@pytest.mark.parametrize("url", ["am:9093", "ftp://h", "http://", "http://u:p@h", "http://h?x=1"])
def test_no_alertmanager_address_is_refused_and_shows_no_credential(sqlite_state: StateStore, url: str) -> None:
    with pytest.raises(ValueError, match=r"Alertmanager") as refused:
        build_notifiers(
            (AlertmanagerNotifier(kind="alertmanager", url=url),),
            state=sqlite_state,
            cluster="",
            load_secret=lambda: "",
            version="0.1.0",
            time_zone="UTC",
            clock=lambda: 90.0,
        )
    assert "u:p" not in str(refused.value)


class Silent(Sender):
    """A sender that takes everything."""

    name, target = "silent", "nowhere"

    def send(self, alert: Alert) -> DeliveryOutcome:
        return DeliveryOutcome.DELIVERED


def test_what_says_nothing_new_and_what_is_past_the_rate_is_counted_and_not_sent(state: StateStore) -> None:
    notifier = Notifier(Silent(), Outbox(state, "silent"), clock=lambda: 90.0)
    base = make_alert(severity=Severity.MEDIUM)
    add(notifier, state, *(replace(base, id=f"a{n}") for n in range(RATE_A_MINUTE + 5)))
    add(notifier, state, replace(base, id="a1", updated_at=base.updated_at + 60))
    add(notifier, state, replace(base, id="grave", severity=Severity.HIGH))
    add(notifier, state, replace(base, id="a2", state=AlertState.CLOSED))
    counts = notifier.counts
    assert (counts.seen, counts.limited, counts.repeated) == (RATE_A_MINUTE + 8, 5, 1)
    assert counts.seen == counts.limited + counts.repeated + notifier.waiting
    assert base.confidence is Confidence.HIGH
    notifier.stop()


def test_what_was_past_the_rate_is_sent_when_it_goes_on(state: StateStore) -> None:
    clock = Clock(90.0)
    notifier = Notifier(Silent(), Outbox(state, "silent"), clock=clock)
    base = make_alert(severity=Severity.MEDIUM)
    add(notifier, state, *(replace(base, id=f"a{n}") for n in range(RATE_A_MINUTE + 1)))
    clock.now += 60
    add(notifier, state, replace(base, id=f"a{RATE_A_MINUTE}", updated_at=base.updated_at + 60))
    assert (notifier.counts.limited, notifier.counts.repeated, notifier.waiting) == (1, 0, RATE_A_MINUTE + 1)
    notifier.stop()


def make_sender(url: str) -> HttpSender:
    return HttpSender("alertmanager", url, write_json("alertmanager"))


@pytest.mark.parametrize(
    "sender",
    [
        SyslogSender(SyslogSettings(url="udp://a..b")),  # Nothing to look up: UnicodeError of the standard library,
        make_sender("http://a..b"),  # here too,
        make_sender("http://127.0.0.1:9/\x01"),  # and httpx.InvalidURL, no HTTPError.
    ],
)
def test_a_sender_that_cannot_even_ask_is_refused_and_the_queue_goes_on(state: StateStore, sender: Sender) -> None:
    notifier = Notifier(sender, Outbox(state, "one"), clock=lambda: 90.0)
    notifier.start()
    for n in range(2):
        add(notifier, state, make_alert(id=f"a{n}"))
    wait_until(lambda: notifier.counts.failed == 2, "both are refused")
    assert (notifier.counts.failed, notifier.waiting, notifier.last_outcome) == (2, 0, DeliveryOutcome.REFUSED)
    notifier.stop()


class Flaky(Silent):
    """Answers nothing while it is away."""

    def __init__(self) -> None:
        self.is_away, self.keys = True, list[tuple[str, str]]()

    def send_keyed(self, alert: Alert, key: str) -> DeliveryOutcome:
        self.keys.append((alert.id, key))
        return DeliveryOutcome.UNANSWERED if self.is_away else DeliveryOutcome.DELIVERED


def test_what_waits_survives_a_kill_in_order_and_with_its_key(state: StateStore) -> None:
    clock = Clock(90.0)
    sender = Flaky()
    killed = Notifier(sender, Outbox(state, "flaky"), clock=clock)
    add(killed, state, make_alert(id="a1", severity=Severity.HIGH), make_alert(id="a2", severity=Severity.HIGH))
    assert killed.deliver_next() == 1.0 and killed.deliver_next() == 1.0, "the second waits for the first"
    sender.is_away = False
    successor = Notifier(sender, Outbox(state, "flaky"), clock=clock)
    other = Notifier(sender, Outbox(state, "other"), clock=clock)
    assert (successor.waiting, other.waiting, other.deliver_next()) == (2, 0, None)
    deliver_all(successor, clock)
    (_, first), *later = sender.keys
    assert [alert for alert, _ in sender.keys] == ["a1", "a1", "a2"]
    assert later[0][1] == first != later[1][1]
    add(successor, state, make_alert(id="a1", severity=Severity.HIGH))
    assert (successor.counts.repeated, successor.waiting) == (1, 0), "the receiver has it from the one that was killed"


def test_a_transaction_that_fails_notifies_nobody_and_counts_nothing(state: StateStore) -> None:
    notifier = Notifier(Silent(), Outbox(state, "silent"), clock=lambda: 90.0)
    with pytest.raises(ZeroDivisionError), state.write() as connection:
        notifier.add(connection, [make_alert(id="a1")])
        1 / 0  # noqa: B018
    add(notifier, state, make_alert(id="a1"))
    assert (notifier.counts.seen, notifier.waiting) == (1, 1)


def test_a_clock_that_went_back_delays_nothing_for_long(state: StateStore) -> None:
    clock = Clock(10_000.0)
    sender = Flaky()
    notifier = Notifier(sender, Outbox(state, "flaky"), clock=clock)
    add(notifier, state, make_alert(id="a1"))
    clock.now = 90.0
    sender.is_away = False
    assert notifier.deliver_next() == 0.0 and notifier.counts.delivered == 1
