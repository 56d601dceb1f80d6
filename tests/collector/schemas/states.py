"""States of schemas as a sensor's book writes them, for tests of the collector."""

from collections.abc import Collection, Iterable

from apidae.v1 import stream_pb2

from collector.receiver.schemas import SchemaRecord, convert_schemas
from sensor.describe.bodies.reader import BodyCall, BodyDocument
from sensor.describe.bodies.sampling import SampleRule
from sensor.describe.schemas.book import SchemaBook
from sensor.export.messages import write_schemas
from sensor.http.http1.head import RequestHead, parse_request_head
from sensor.routes.vocabulary import load_vocabulary
from tests.collector.inventory.seed import NOW
from tests.sensor.records import make_origin


class Node:
    """One sensor process, its book and what it tells."""

    def __init__(self, name: str = "node-a", boot_id: str = "boot-1") -> None:
        self.name, self.boot_id = name, boot_id
        self.book = SchemaBook(load_vocabulary(), SampleRule(first_count=1 << 30))

    def call(
        self, route_id: int, target: str, *lines: str, asked: object = None, told: object = None, status: int = 200,
        consumer: int = 1, media_type: str = "application/json", authentication: int = 0, data: Collection[int] = (),
        seconds_ago: int = 60,
    ) -> None:  # fmt: skip
        """One sampled call, with the documents of its bodies."""
        text = "\r\n".join([f"POST {target} HTTP/1.1", *lines, "", ""])
        head = parse_request_head(text.encode(), False)
        assert isinstance(head, RequestHead)
        time_ns = int(NOW - seconds_ago) * 10**9
        origin = make_origin(consumer)
        self.book.learn_head(route_id, status, head, origin, time_ns, authentication)
        named = media_type.encode()
        documents = [None if tree is None else BodyDocument(media_type, named, tree, True) for tree in (asked, told)]
        sizes = 0, 0
        call = BodyCall(route_id, status, b"", b"", *sizes, time_ns, None, None, 0, origin, authentication)
        self.book.learn_bodies(call, *documents, data)

    def tell(self) -> list[SchemaRecord]:
        """What changed, over the wire."""
        records: list[SchemaRecord] = []
        for schemas in self.book.take(1):
            message = stream_pb2.ConnectRequest.FromString(write_schemas(schemas).SerializeToString())
            records += convert_schemas(message.schemas, node=self.name, boot_id=self.boot_id, now_unix_seconds=NOW)
        return records


def tell_all(nodes: Iterable[Node]) -> list[SchemaRecord]:
    """What several tell."""
    return [record for node in nodes for record in node.tell()]
