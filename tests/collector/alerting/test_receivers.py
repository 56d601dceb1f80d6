"""Slack, Teams, PagerDuty, OTLP, OCSF, templates and e-mail: each body as published, taken by a local receiver."""

import email
import email.policy
import json
import re
import ssl
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from collector.alerting.alert import Alert, AlertKind, AlertState, Severity, label_alert
from collector.alerting.notifiers.build import PAGERDUTY_URLS, build_notifiers
from collector.alerting.notifiers.delivery import DeliveryOutcome, Notifier, make_test_alert
from collector.alerting.notifiers.file import FileSender
from collector.alerting.notifiers.http import check_otlp, read_headers
from collector.alerting.notifiers.mail import MailSender, MailSettings
from collector.alerting.notifiers.templates import load_template, write_json
from collector.core.config import CollectorSettings
from collector.core.destinations import PagerDutyRegion
from collector.storage.state.store import StateStore
from tests.collector.alerting.outboxes import add
from tests.collector.alerting.receivers import Receiver, receive, receive_mail
from tests.collector.alerting.test_notifiers import make_alert
from tests.e2e.certificates import make_certificate

KEY = "0123456789abcdef0123456789abcdef"
HOSTILE = '<!channel> "a" & [b](http://evil.example) *c*\r\nBcc: x@evil.example\n\x00' + "é" * 5_000
TEMPLATE = """{"title": {{ alert.title | tojson }}, "is_open": {{ (alert.closed_at is none) | tojson }},
"opened": {{ alert.opened_at | rfc3339 | tojson }}, "level": {{ alert.severity | tojson }}}"""
MAIL = {"sender": "a@b", "recipients": ["c@d"]}
KINDS = ("slack", "teams", "pagerduty", "otlp", "ocsf", "jira", "ticket", "template")


def open_notifier(
    *, state: StateStore | None = None, cluster: str = "", pagerduty_url: str = "", **settings: Any
) -> Notifier:
    """The one notifier of this entry of the settings, as a collector has it; PagerDuty is at `pagerduty_url`."""
    entries = CollectorSettings.model_validate({"notifiers": [settings]}).notifiers
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PAGERDUTY_URLS, PagerDutyRegion.US, pagerduty_url)
        made = build_notifiers(
            entries,
            state=state,  # type: ignore[arg-type] # Of what waits; most tests send at once.
            cluster=cluster,
            load_secret=lambda: "s",
            version="0.1.0",
            time_zone="UTC",
            clock=lambda: 1_700_000_000.0,
        )
    (notifier,) = made.members
    return notifier


def settings_for(kind: str, receiver: Receiver, directory: Path) -> dict[str, Any]:
    match kind:
        case "pagerduty":
            return {"kind": kind, "routing_key": KEY, "pagerduty_url": receiver.url}
        case "otlp":
            return {"kind": kind, "url": receiver.url, "headers": "authorization=Bearer%20k", "cluster": "east"}
        case "jira":
            return {"kind": kind, "url": receiver.url, "token": "secret", "project": "SEC", "user": "bot@jira.example"}
        case "template":
            (directory / "t").write_text(TEMPLATE)
            return {"kind": kind, "url": receiver.url, "template_file": directory / "t"}
        case _:
            return {"kind": kind, "url": receiver.url}


def list_alerts() -> list[Alert]:
    times = {"window_start": 1_699_999_940.0, "window_end": 1_700_000_000.0}
    fields: dict[str, Any] = {"consumer": "address:203.0.113.9", "endpoint_id": "0123456789abcdef", "calls": 7, **times}
    opened = make_alert(severity=Severity.HIGH, **fields)
    closed = replace(opened, state=AlertState.CLOSED, updated_at=1_700_000_700.0, closed_at=1_700_000_700.0)
    hostile = replace(opened, title=HOSTILE, why=HOSTILE, consumer=f"principal:{HOSTILE}", advice=HOSTILE, node=HOSTILE)
    bare = replace(opened, consumer="", endpoint_id="", node="", risk="", advice="", why="", incident_id="")
    updated = replace(opened, updated_at=opened.updated_at + 60, acknowledged_by="ann", severity=Severity.MEDIUM)
    linked = label_alert(opened, "", "https://apidae.example/at")
    kinds = [replace(opened, kind=kind, severity=severity) for kind in AlertKind for severity in Severity]
    return [opened, closed, hostile, bare, updated, linked, make_test_alert("ann", 1_700_000_000.0), *kinds]


@pytest.mark.parametrize("kind", KINDS)
def test_every_body_is_taken_as_published(kind: str, tmp_path: Path) -> None:
    with receive(kind) as receiver:
        notifier = open_notifier(**settings_for(kind, receiver, tmp_path))
        for alert in list_alerts():
            assert notifier.attempt(alert) is DeliveryOutcome.DELIVERED, receiver.refused
        notifier.stop()
    assert len(receiver.taken) == len(list_alerts()) and not receiver.refused
    assert notifier.name == kind and "secret" not in notifier.target and notifier.target.startswith("http://127.0.0.1:")


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_schema_does_not_know_is_refused(kind: str, tmp_path: Path) -> None:
    """The receivers can refuse: else the test above would say nothing."""
    with receive(kind) as receiver, receive("template") as echo:
        assert receiver.judge(b"{", "application/json") and receiver.judge(b"{}", "text/plain")
        notifier = open_notifier(**settings_for(kind, echo, tmp_path))
        assert notifier.attempt(list_alerts()[0]) is DeliveryOutcome.DELIVERED
        (body,) = echo.taken
        assert receiver.judge(json.dumps(body).encode(), "application/json") == ""
        if receiver.validator is not None:
            assert receiver.judge(json.dumps({**body, "surprise": 1}).encode(), "application/json")
        notifier.stop()


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(429, DeliveryOutcome.UNANSWERED), (500, DeliveryOutcome.UNANSWERED), (403, DeliveryOutcome.REFUSED)],
)
def test_an_answer_says_whether_it_is_worth_another_try(status: int, outcome: DeliveryOutcome, tmp_path: Path) -> None:
    for kind in KINDS:
        with receive(kind) as receiver:
            receiver.status = status
            notifier = open_notifier(**settings_for(kind, receiver, tmp_path))
            assert notifier.attempt(list_alerts()[0]) is outcome
            notifier.stop()


def test_slack_mentions_nobody_and_links_nowhere() -> None:
    with receive("slack") as receiver:
        notifier = open_notifier(kind="slack", url=receiver.url)
        notifier.attempt(replace(make_alert(), title=HOSTILE))
        notifier.stop()
    (body,) = receiver.taken
    assert body["text"].startswith("&lt;!channel&gt; ") and body["blocks"][0]["text"]["text"].endswith("…")
    assert "mrkdwn" not in json.dumps(body)


def test_pagerduty_resolves_what_it_triggered() -> None:
    with receive("pagerduty") as receiver:
        notifier = open_notifier(kind="pagerduty", routing_key=KEY, pagerduty_url=receiver.url)
        opened, closed, *_ = list_alerts()
        assert {notifier.attempt(alert) for alert in (opened, closed)} == {DeliveryOutcome.DELIVERED}
        notifier.stop()
    first, second = receiver.taken
    assert (first["event_action"], second["event_action"]) == ("trigger", "resolve")
    assert first["dedup_key"] == second["dedup_key"] == opened.id and first["payload"]["severity"] == "critical"


def test_otlp_goes_to_its_path_with_its_headers_and_hears_what_was_refused() -> None:
    with receive("otlp", path="/") as receiver:
        settings = {
            "kind": "otlp",
            "url": receiver.url,
            "headers": "authorization=Bearer%20k, x-scope=a=b",
            "cluster": "east",
        }
        notifier = open_notifier(**settings)
        assert notifier.attempt(list_alerts()[0]) is DeliveryOutcome.DELIVERED
        receiver.answer = b'{"partialSuccess":{"rejectedLogRecords":"1","errorMessage":"no"}}'
        assert notifier.attempt(list_alerts()[0]) is DeliveryOutcome.REFUSED
        receiver.answer = b"not json"
        assert notifier.attempt(list_alerts()[0]) is DeliveryOutcome.DELIVERED
        notifier.stop()
    assert receiver.paths == ["/v1/logs"] * 3
    assert (receiver.headers[0]["authorization"], receiver.headers[0]["x-scope"]) == ("Bearer k", "a=b")
    (logs,) = receiver.taken[0]["resourceLogs"]
    resource = {one["key"]: one["value"]["stringValue"] for one in logs["resource"]["attributes"]}
    assert resource == {"service.name": "apidae-collector", "service.version": "0.1.0", "k8s.cluster.name": "east"}
    record = logs["scopeLogs"][0]["logRecords"][0]
    values = {one["key"]: one["value"] for one in record["attributes"]}
    assert (record["severityNumber"], record["timeUnixNano"]) == (17, "1700000000000000000")
    assert (values["client.address"], values["apidae.alert.calls"]) == (
        {"stringValue": "203.0.113.9"},
        {"intValue": "7"},
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_links_to_the_alert_and_to_the_page_of_its_kind(kind: str, tmp_path: Path) -> None:
    """Of a template of one's own, where it says so."""
    linked = label_alert(replace(list_alerts()[0], id="a1"), "", "https://apidae.example/at")
    with receive(kind) as receiver:
        notifier = open_notifier(**settings_for(kind, receiver, tmp_path))
        if kind == "template":
            (tmp_path / "own").write_text('{"see": {{ [alert.url, alert.runbook_url] | tojson }}}')
            notifier = open_notifier(**settings_for(kind, receiver, tmp_path) | {"template_file": tmp_path / "own"})
        assert notifier.attempt(linked) is DeliveryOutcome.DELIVERED, receiver.refused
        notifier.stop()
    message = json.dumps(receiver.taken[0])
    assert "https://apidae.example/at/alerts/a1" in message
    assert f"https://apidae.example/at/docs/alerts/{linked.kind}" in message


def test_an_issue_of_jira_has_its_account_and_no_markup(tmp_path: Path) -> None:
    with receive("jira", path="/") as receiver:
        settings = {"kind": "jira", "url": receiver.url, "token": "t", "project": "SEC", "issue_type": "Bug"}
        for account in ({"user": "bot@jira.example"}, {}):
            notifier = open_notifier(**settings, **account)
            assert notifier.attempt(make_alert(why="{noformat}[~everybody]")) is DeliveryOutcome.DELIVERED
            notifier.stop()
    assert receiver.paths == ["/rest/api/2/issue"] * 2
    assert [one["authorization"] for one in receiver.headers] == ["Basic Ym90QGppcmEuZXhhbXBsZTp0", "Bearer t"]
    fields = receiver.taken[0]["fields"]
    assert (fields["project"], fields["issuetype"]) == ({"key": "SEC"}, {"name": "Bug"})
    assert "severity-medium" in fields["labels"] or "severity-high" in fields["labels"]
    opened, _, rest = fields["description"].partition("\n")
    assert opened == "{noformat}" and rest.count("{noformat}") == 1 and rest.endswith("{noformat}")


def test_ocsf_follows_a_finding_from_its_creation_to_its_end() -> None:
    opened, closed, _, _, updated, *_ = list_alerts()
    with receive("ocsf") as receiver:
        notifier = open_notifier(kind="ocsf", url=receiver.url, cluster="east")
        for alert in (opened, updated, closed):
            assert notifier.attempt(alert) is DeliveryOutcome.DELIVERED
        notifier.stop()
    told = [(body["activity_id"], body["type_uid"], body["status_id"]) for body in receiver.taken]
    assert told == [(1, 200401, 1), (2, 200402, 2), (3, 200403, 4)]
    assert len({body["finding_info"]["uid"] for body in receiver.taken}) == 1
    assert receiver.taken[0]["evidences"] == [{"src_endpoint": {"ip": "203.0.113.9"}}]
    assert receiver.taken[0]["unmapped"]["cluster"] == "east"


def test_ocsf_into_a_file_that_is_bounded(tmp_path: Path) -> None:
    with receive("ocsf") as receiver:
        file = tmp_path / "findings.jsonl"
        notifier = open_notifier(kind="ocsf_file", path=file)
        assert notifier.target == "file findings.jsonl"
        for alert in list_alerts():
            assert notifier.attempt(alert) is DeliveryOutcome.DELIVERED
        lines = file.read_bytes().splitlines()
        assert len(lines) == len(list_alerts()) and stat.S_IMODE(file.stat().st_mode) & 0o037 == 0
        assert [receiver.judge(line, "application/json") for line in lines] == [""] * len(lines)
        sender = FileSender("ocsf_file", file, write_json("ocsf", version="1", cluster=""), bytes_max=1)
        assert [sender.send(make_alert()), sender.send(make_alert())] == [DeliveryOutcome.DELIVERED] * 2
        assert not file.exists() and len((tmp_path / "findings.jsonl.1").read_bytes().splitlines()) == 1
        (tmp_path / "findings.jsonl").mkdir()
        assert sender.send(make_alert()) is DeliveryOutcome.UNANSWERED


def test_an_erased_consumer_is_sent_nowhere_any_more_and_blanked_in_our_file(state: StateStore, tmp_path: Path) -> None:
    file = tmp_path / "findings.jsonl"
    notifier = open_notifier(state=state, kind="ocsf_file", path=file)
    opened = replace(make_alert(), consumer="address:203.0.113.9")
    for alert in (opened, replace(opened, id="other", consumer="address:203.0.113.90")):
        assert notifier.attempt(alert) is DeliveryOutcome.DELIVERED
        add(notifier, state, alert)
    size = file.stat().st_size
    assert notifier.erase(re.compile(r"(?:address:)?203\.0\.113\.9(?!\d)")) == 2
    assert file.stat().st_size == size and b"203.0.113.90" in file.read_bytes()
    assert b'203.0.113.9"' not in file.read_bytes()
    assert notifier.waiting == 1


def test_a_template_writes_what_it_says(tmp_path: Path) -> None:
    with receive("template") as receiver:
        notifier = open_notifier(**settings_for("template", receiver, tmp_path))
        opened, closed, hostile, *_ = list_alerts()
        for alert in (opened, closed, hostile):
            assert notifier.attempt(alert) is DeliveryOutcome.DELIVERED
        notifier.stop()
    assert [body["is_open"] for body in receiver.taken] == [True, False, True]
    assert receiver.taken[0]["opened"] == "2023-11-14T22:13:20.000Z" and receiver.taken[0]["level"] == "high"
    assert receiver.taken[2]["title"] == HOSTILE


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"t": "{{ alert.title }}"}', "makes no JSON"),
        ("{{ alert.titel | tojson }}", "no attribute 'titel'"),
        ("{{ alert.title", "no template of Jinja"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{% for a in range(90000) %}{{ alert.title }}{% endfor %}", "at most 262144 are sent"),
        ("x" * 70_000, "at most 65536 are read"),
    ],
)
def test_a_template_that_would_fail_is_refused_at_the_start(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_text(text)
    with pytest.raises(ValueError, match=told):
        load_template(path, "application/json")
    with pytest.raises(ValueError, match=r"template_file|cannot be read"):
        load_template(tmp_path / "none", "application/json")


def test_a_template_may_be_of_plain_text(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("{{ alert.severity }}: {{ alert.title }} {{ alert.route_ids | first }}")
    alert = replace(make_alert(), title='a"b', route_ids=(2**63 + 5,))
    assert load_template(tmp_path / "t", "text/plain")(alert) == b'medium: a"b 8000000000000005'


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ssl.SSLContext, ssl.SSLContext]]:
    """The server's side and the client's."""
    made = make_certificate(tmp_path_factory.mktemp("tls"), "mail", "IP:127.0.0.1")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(made.certificate, made.key)
    yield server, ssl.create_default_context(cafile=made.authority)


def make_mail(url: str, context: ssl.SSLContext | None = None, **fields: Any) -> MailSender:
    defaults = {"sender": "apidae@example.org", "recipients": ("soc@example.org", "ann@example.org")}
    return MailSender(MailSettings(url=url, **{**defaults, **fields}), context=context)


def test_a_message_is_one_that_mail_programs_read() -> None:
    with receive_mail() as server:
        sender = make_mail(f"smtp://127.0.0.1:{server.port}")
        opened, closed, hostile, *_ = list_alerts()
        assert [sender.send(alert) for alert in (opened, closed, hostile)] == [DeliveryOutcome.DELIVERED] * 3
    first, second, third = (email.message_from_bytes(one, policy=email.policy.default) for one in server.messages)
    assert server.envelopes[0][1:] == ["to:<soc@example.org>", "to:<ann@example.org>"]
    assert first["subject"] == f"[Apidae high] {opened.title}" and second["subject"].startswith(
        "[Apidae high] Closed: "
    )
    assert first["references"] == second["references"] and first["message-id"] != second["message-id"]
    assert (first["auto-submitted"], first["importance"], second["importance"]) == ("auto-generated", "high", None)
    assert opened.why in first.get_content() and "Consumer: address:203.0.113.9" in first.get_content()
    assert (
        third["bcc"] is None
        and "Bcc: x@evil.example" in third["subject"]
        and not any(one.defects for one in (first, third))
    )


def test_mail_goes_by_tls_and_logs_in(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    server_context, client = tls
    with receive_mail(server_context) as server:
        sender = make_mail(f"smtp://ann:p%40ss@127.0.0.1:{server.port}", client)
        assert sender.send(make_alert()) is DeliveryOutcome.DELIVERED
        assert (server.secured, len(server.messages)) == (1, 1) and len(server.logins) == 1
        assert "p%40ss" not in sender.target and "ann" not in sender.target
        # An authority that nobody knows.
        assert make_mail(f"smtp://127.0.0.1:{server.port}").send(make_alert()) is DeliveryOutcome.UNANSWERED
        assert len(server.messages) == 1
    with receive_mail(server_context, is_tls=True) as server:
        assert make_mail(f"smtps://127.0.0.1:{server.port}", client).send(make_alert()) is DeliveryOutcome.DELIVERED
    assert len(server.messages) == 1


def test_mail_is_never_in_the_clear_off_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collector.alerting.notifiers.mail.is_loopback", lambda host: False)
    with receive_mail() as server:
        assert make_mail(f"smtp://127.0.0.1:{server.port}").send(make_alert()) is DeliveryOutcome.REFUSED
        assert not server.messages


@pytest.mark.parametrize(
    ("said", "outcome"), [("550 no such user", DeliveryOutcome.REFUSED), ("451 later", DeliveryOutcome.UNANSWERED)]
)
def test_a_mail_servers_refusal_is_final_and_its_delay_is_not(said: str, outcome: DeliveryOutcome) -> None:
    with receive_mail() as server:
        server.refusal = said
        sender = make_mail(f"smtp://127.0.0.1:{server.port}")
        assert sender.send(make_alert()) is outcome
    assert sender.send(make_alert()) is DeliveryOutcome.UNANSWERED  # Nobody listens any more.


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {"kind": "slack", "url": "http://hooks.example/secret"},
            r"notifiers\[0\], slack: Slack address 'http://hooks.ex",
        ),
        ({"kind": "teams", "url": "nonsense"}, "teams: Teams address"),
        ({"kind": "ocsf", "url": "http://siem.example"}, "ocsf: OCSF address"),
        ({"kind": "pagerduty", "routing_key": "short-secret"}, "pagerduty: it is no integration key"),
        ({"kind": "otlp", "url": "otel:4317"}, "otlp: .* is no OTLP endpoint"),
        ({"kind": "otlp", "url": "http://u:secret@otel:4318"}, "is no OTLP endpoint"),
        ({"kind": "otlp", "url": "http://otel:4318", "headers": "api-key=secret"}, "would go in the clear"),
        ({"kind": "otlp", "url": "https://otel", "headers": "secret"}, "headers must be NAME=VALUE"),
        ({"kind": "otlp", "url": "https://otel", "headers": "x=secret%C3%BC"}, "headers must be NAME=VALUE .* ASCII"),
        ({"kind": "ocsf_file", "path": "/nowhere/at/all.jsonl"}, "ocsf_file: /nowhere/at is no directory"),
        ({"kind": "jira", "url": "http://jira.example", "token": "secret", "project": "S"}, "jira: Jira address"),
        ({"kind": "jira", "url": "https://u:secret@j", "token": "s", "project": "S"}, "is no address of Jira"),
        ({"kind": "ticket", "url": "https://h", "headers": "secret"}, "ticket: headers must be NAME=VALUE"),
        ({"kind": "slack", "url": "https://h", "kinds": ["bolo"]}, "slack: kinds has 'bolo', which fits no kind"),
        ({"kind": "slack", "url": "https://h", "quiet_hours": ["22-6"]}, "quiet_hours has '22-6'; write `Mon-Fri"),
        ({"kind": "slack", "url": "https://h", "quiet_hours": ["Mon 24:00-06:00"]}, "quiet_hours has 'Mon 24:00-06"),
        ({"kind": "slack", "url": "https://h", "quiet_hours": ["00:00-24:00"]}, "are the whole week"),
        ({"kind": "mail", "url": "mail:25", **MAIL}, "is no address of a mail server"),
        ({"kind": "mail", "url": "smtp://u:secret@h/x", **MAIL}, "is no address of a mail server"),
        ({"kind": "mail", "url": "smtp://h", **MAIL, "recipients": ["c@d", "nobody"]}, "'nobody' is no address"),
        ({"kind": "mail", "url": "smtp://h", **MAIL, "sender": "a\nb@c"}, "sender .* is no address"),
        ({"kind": "template", "url": "https://h/x", "template_file": "/nowhere"}, "template: /nowhere cannot be read"),
    ],
)
def test_a_wrong_setting_is_one_sentence_without_secrets(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told) as refused:
        open_notifier(**settings)
    assert "secret" not in str(refused.value)


def test_an_endpoint_is_completed_once() -> None:
    assert check_otlp("https://h/otlp/", is_with_headers=True) == "https://h/otlp/v1/logs"
    assert check_otlp("http://h:4318/v1/logs", is_with_headers=False) == "http://h:4318/v1/logs"
    assert read_headers("") == {}
