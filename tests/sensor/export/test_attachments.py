"""What was done to JVMs goes to each new stream whole, and then as it comes."""

from pathlib import Path

from apidae.v1 import stream_pb2

from sensor.core.attachments import AttachmentEvent, AttachmentRecord, ConsentKind, Grant
from tests.sensor.export.collector import FakeCollector
from tests.sensor.export.sending import Sender, with_sender
from tests.sensor.records import make_service


def make_record(name: str) -> AttachmentRecord:
    return AttachmentRecord(
        id=name,
        event=AttachmentEvent.FAILED,
        service=make_service(),
        process=12,
        process_name="java",
        grant=Grant(ConsentKind.ANNOTATION, "shop/cart-1"),
        reason="It has no /tmp.",
        monotonic_ns=0,
    )


def test_each_stream_has_all_that_is_kept(tmp_path: Path) -> None:
    async def test(sender: Sender, collector: FakeCollector) -> None:
        sender.listener.attachments.add(make_record("a"))
        await collector.wait_for(lambda: bool(collector.attachments))
        collector.hang_up_after = 1
        sender.send(1)
        await collector.wait_for(lambda: len(collector.hellos) > 1)
        collector.hang_up_after = 0
        await collector.wait_for(lambda: len(collector.attachments) > 1)
        ids = [[one.id for one in message.attachments] for message in collector.attachments]
        assert ids[:2] == [["a"], ["a"]]
        (told,) = collector.attachments[0].attachments
        assert told.event == stream_pb2.ATTACHMENT_EVENT_FAILED and told.consent == stream_pb2.CONSENT_KIND_ANNOTATION
        assert (told.process, told.process_name, told.reason) == (12, "java", "It has no /tmp.")
        assert (told.service.workload, told.consent_text) == (make_service().workload, "shop/cart-1")

    with_sender(tmp_path, test)
