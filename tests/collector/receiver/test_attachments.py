"""What sensors did to JVMs becomes entries of the audit log: of their own node, once each, and within a bound."""

from dataclasses import replace

import pytest
from apidae.v1 import data_pb2, stream_pb2

from collector.receiver import attachments
from collector.receiver import witness as module
from collector.receiver.attachments import AttachmentLog, convert_attachments
from collector.receiver.sensor_status import Greeting
from collector.receiver.witness import Witness, WitnessBook
from collector.storage.state.store import StateStore
from collector.trust.audit import AuditEntry, AuditFilters, AuditLog

NOW = 1_700_000_000.0
GREETING = Greeting(
    cluster="east", node="n1", boot_id="b", key_id=1, version="1", kernel_release="6", policy_epoch=0,
    features=frozenset(), name="east/n1",
)  # fmt: skip
ATTACHED, FAILED, DETACHED = (
    stream_pb2.ATTACHMENT_EVENT_ATTACHED,
    stream_pb2.ATTACHMENT_EVENT_FAILED,
    stream_pb2.ATTACHMENT_EVENT_DETACHED,
)


def make_attachment(name: str = "a", workload: str = "cart", **fields: object) -> stream_pb2.Attachment:
    return stream_pb2.Attachment(
        **{
            "id": name,
            "event": ATTACHED,
            "service": data_pb2.Service(cluster="east", namespace="shop", workload=workload),
            "process": 12,
            "process_name": "java",
            "consent": stream_pb2.CONSENT_KIND_LINE,
            "consent_text": "3 shop/*",
            **fields,
        }
    )


def convert(*attachments: stream_pb2.Attachment, lost: int = 0, name: str = "east/n1") -> list[AuditEntry]:
    greeting = Greeting(**{**{key: getattr(GREETING, key) for key in GREETING.__slots__}, "name": name})
    message = stream_pb2.Attachments(attachments=attachments, lost=lost)
    return convert_attachments(message, greeting, NOW, has_certificate=True)


@pytest.fixture
def witness() -> Witness:
    return WitnessBook(lambda *_: None, lambda: NOW).open("east/n1")


def test_an_entry_says_who_what_where_and_by_which_consent() -> None:
    (entry,) = convert(make_attachment(age_seconds=60))
    assert (entry.by, entry.way, entry.action, entry.time) == ("sensor:east/n1", "certificate", "java.attached", NOW)
    assert entry.target == "east/n1: shop/cart, process 12 (java)"
    assert entry.why == "Consent: line 3 shop/* of java-attach."
    assert entry.after == f'{{"happened":{NOW - 60}}}'


@pytest.mark.parametrize(
    ("fields", "action", "why"),
    [
        (
            {"event": FAILED, "reason": "It has no /tmp.", "consent": 2, "consent_text": "shop/cart-1"},
            "java.failed",
            "It has no /tmp. Consent: annotation of the Pod shop/cart-1.",
        ),
        ({"event": DETACHED, "consent": 0, "consent_text": ""}, "java.detached", "Consent was withdrawn."),
        (
            {"event": 4, "consent": 3, "consent_text": "shop"},
            "java.reattached",
            "Consent: label of the namespace shop.",
        ),
    ],
)
def test_each_event_is_an_action_of_its_own(fields: dict[str, object], action: str, why: str) -> None:
    (entry,) = convert(make_attachment(**fields))
    assert (entry.action, entry.why) == (action, why)


def test_texts_of_a_sensor_are_cut_and_printable() -> None:
    (entry,) = convert(
        make_attachment(
            process_name="\x1b[31m" + "x" * 10_000, reason="line\nend" * 1_000, event=FAILED, process=2**32 - 1
        )
    )
    assert entry.target.isprintable() and entry.why.isprintable()
    assert len(entry.target) < 1_100 and len(entry.why) < 2_000


def test_events_of_a_newer_sensor_are_excluded_and_lost_ones_are_an_entry() -> None:
    assert convert(make_attachment(event=99)) == []
    (entry,) = convert(lost=3)
    assert entry.action == "java.unreported" and entry.why.startswith("3 attachments")


def test_what_comes_again_is_written_once_whichever_collector_had_it(state: StateStore, witness: Witness) -> None:
    audit = AuditLog(state)
    for _ in range(2):  # The second one has restarted.
        log = AttachmentLog(audit)
        fresh = WitnessBook(lambda *_: None, lambda: NOW).open("east/n1")
        for _ in range(2):
            log.add(fresh.admit_attachments(convert(make_attachment("a"), make_attachment("b"))))
            log.flush()
    lines = audit.list_lines(AuditFilters(action="java"), limit=9)
    assert len(lines) == 2 and audit.check().fault == ""
    # The same id of another node is another event.
    log.add(convert(make_attachment("a"), name="east/n2"))
    log.flush()
    assert len(audit.list_lines(AuditFilters(actor="sensor:east/n2"), limit=9)) == 1


def test_sensors_of_many_names_do_not_evict_what_people_decided(
    state: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attachments, "ENTRIES_A_DAY", 3)
    audit = AuditLog(state)
    log = AttachmentLog(audit)
    for node in range(5):
        log.add(convert(make_attachment("a"), name=f"east/n{node}"))
        log.flush()
    assert len(audit.list_lines(AuditFilters(action="java"), limit=9)) == 3
    assert [figure.value for figure in log.feature.figures()] == [2]
    log.add(convert(make_attachment("a")))  # Known, and so not counted again.
    log.add([replace(entry, time=NOW + 86_400) for entry in convert(make_attachment("b"))])
    log.flush()
    assert len(audit.list_lines(AuditFilters(action="java"), limit=9)) == 4


def test_one_workload_leaves_room_for_the_others_of_its_node(witness: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ATTACHMENTS_OF_ONE", 2)
    monkeypatch.setattr(module, "ATTACHMENTS_A_DAY", 3)
    many = [make_attachment(str(number)) for number in range(5)]
    assert len(witness.admit_attachments(convert(*many))) == 2
    assert len(witness.admit_attachments(convert(make_attachment("x", "mail"), make_attachment("y", "web")))) == 1
    ((what, _),) = witness.use.list_exceeded()
    assert what == "7 attachments of the Java agent (limits 3 and 2 of one workload)"


def test_a_sensor_cannot_name_a_workload_of_another_node() -> None:
    witness = WitnessBook(lambda *_: False, lambda: NOW).open("east/n1")
    attachment = make_attachment()
    attachment.service.workload_kind = data_pb2.WORKLOAD_KIND_KUBERNETES
    witness.bind_services([attachment.service], GREETING)
    (entry,) = convert(attachment)
    assert entry.target == "east/n1: shop/cart on the host, process 12 (java)"
