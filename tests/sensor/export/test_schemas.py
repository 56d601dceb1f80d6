"""What routes look like goes up on every new stream, whole, and needs no acknowledgement."""

from pathlib import Path

import msgspec
from apidae.v1 import stream_pb2

from sensor.describe.schemas.book import Schema, SchemaPart
from sensor.describe.schemas.tree import Field
from sensor.export.session import OFFER_FEATURE
from tests.sensor.export.collector import FakeCollector
from tests.sensor.export.sending import Sender, with_sender
from tests.waiting import wait_in_loop

SCHEMA = Schema(
    route_id=7,
    part=SchemaPart.RESPONSE_BODY,
    status_class=2,
    media_type="application/json",
    generation=3,
    version=9,
    samples=4,
    left_out=1,
    fields=(Field(path="/id", present=4, objects=0, types=(("integer/int32", 4),), values=("active",), is_open=False),),
)


def test_every_stream_begins_with_all(tmp_path: Path) -> None:
    async def test(sender: Sender, collector: FakeCollector) -> None:
        sender.listener.schemas = [SCHEMA]
        collector.hang_up_after = 1
        sender.send(1)
        await collector.wait_for(lambda: len(collector.hellos) > 1)
        collector.hang_up_after = 0
        await collector.wait_for(lambda: bool(collector.schemas))
        told: stream_pb2.Schema = collector.schemas[0].schemas[0]
        assert (told.route_id, told.part, told.status_class, told.media_type) == (7, 5, 2, "application/json")
        assert (told.generation, told.version, told.samples, told.left_out) == (3, 9, 4, 1)
        (field,) = told.fields
        assert (field.path, field.present, list(field.values)) == ("/id", 4, ["active"])
        assert [(kind.text, kind.count) for kind in field.types] == [("integer/int32", 4)]
        assert sender.listener.schemas_asked[:2] == [True, True]

    with_sender(tmp_path, test)


def test_a_collector_that_takes_offers_gets_what_it_asks_for(tmp_path: Path) -> None:
    async def test(sender: Sender, collector: FakeCollector) -> None:
        collector.welcome.features.append(OFFER_FEATURE)
        sender.listener.schemas = [msgspec.structs.replace(SCHEMA, digest=2**64 - 1)]
        sender.send(1)
        await collector.wait_for(lambda: bool(collector.offers))
        assert collector.offers == [[2**64 - 1]]
        request = stream_pb2.SchemaRequest(digests=[2**64 - 1])
        collector.push(stream_pb2.ConnectResponse(schema_request=request))
        await wait_in_loop(lambda: bool(sender.listener.schemas_wanted))
        assert sender.listener.schemas_wanted == [[2**64 - 1]] and True not in sender.listener.schemas_asked

    with_sender(tmp_path, test)
