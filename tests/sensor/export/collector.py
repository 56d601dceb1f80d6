"""A collector in the test's own loop: grpc.aio on port 0, whose answers the test writes."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
from apidae.v1 import data_pb2, stream_pb2, stream_pb2_grpc

KEY = stream_pb2.InstallationKey(key_id=7, secret=b"0123456789abcdef")
ACCEPTED = stream_pb2.ACK_STATUS_ACCEPTED

Answer = Callable[[data_pb2.Batch], stream_pb2.Ack | None]


def accept(batch: data_pb2.Batch) -> stream_pb2.Ack:
    return stream_pb2.Ack(boot_id=batch.boot_id, sequence=batch.sequence, status=ACCEPTED)


class FakeCollector(stream_pb2_grpc.CollectorServiceServicer):  # type: ignore[misc]
    """Keeps what it was told. `answer` makes an ack of a batch, or None for silence; set `hang_up_after` to end
    streams early."""

    def __init__(self) -> None:
        self.answer: Answer = accept
        self.welcome = stream_pb2.Welcome(protocol=1, policy_epoch=0, keys=[KEY])
        self.token = ""
        self.hang_up_after = 0  # Batches of a stream after which it is cut without an answer; 0 = never.
        self.hellos: list[stream_pb2.Hello] = []
        self.batches: list[data_pb2.Batch] = []
        self.healths: list[stream_pb2.Health] = []
        self.coverages: list[stream_pb2.Coverage] = []
        self.schemas: list[stream_pb2.Schemas] = []
        self.offers: list[list[int]] = []
        self.results: list[stream_pb2.PolicyResult] = []
        self.attachments: list[stream_pb2.Attachments] = []
        self.enforcements: list[stream_pb2.EnforcementReport] = []
        self.revealed: list[stream_pb2.Revealed] = []
        self.port = 0
        self._outbox: asyncio.Queue[stream_pb2.ConnectResponse] = asyncio.Queue()
        self._changed = asyncio.Condition()

    async def Connect(self, request_iterator: Any, context: Any) -> AsyncIterator[stream_pb2.ConnectResponse]:  # noqa: N802
        if self.token and ("authorization", f"Bearer {self.token}") not in context.invocation_metadata():
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the token is not known")
        hello = await anext(request_iterator)
        self.hellos.append(hello.hello)
        self._outbox = asyncio.Queue()  # Before the sensor knows of the stream: a test may push from then on.
        yield stream_pb2.ConnectResponse(welcome=self.welcome)
        reader = asyncio.create_task(self._read(request_iterator, self._outbox))
        try:
            while True:
                waiting = asyncio.create_task(self._outbox.get())
                await asyncio.wait({waiting, reader}, return_when=asyncio.FIRST_COMPLETED)
                if not waiting.done():
                    waiting.cancel()
                    return
                yield waiting.result()
        finally:
            reader.cancel()

    async def _read(self, request_iterator: Any, outbox: asyncio.Queue[stream_pb2.ConnectResponse]) -> None:
        batches_count = 0
        async for request in request_iterator:
            match request.WhichOneof("message"):
                case "batch":
                    batches_count += 1
                    self.batches.append(request.batch)
                    if batches_count == self.hang_up_after:
                        await self._notify()
                        return
                    ack = self.answer(request.batch)
                    if ack is not None:
                        outbox.put_nowait(stream_pb2.ConnectResponse(ack=ack))
                case "health":
                    self.healths.append(request.health)
                case "coverage":
                    self.coverages.append(request.coverage)
                case "schemas":
                    self.schemas.append(request.schemas)
                case "schema_offer":
                    self.offers.append(list(request.schema_offer.digests))
                case "policy_result":
                    self.results.append(request.policy_result)
                case "attachments":
                    self.attachments.append(request.attachments)
                case "enforcement":
                    self.enforcements.append(request.enforcement)
                case "revealed":
                    self.revealed.append(request.revealed)
            await self._notify()

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def wait_for(self, is_so: Callable[[], bool]) -> None:
        """Return when `is_so`, looked at after every message; fails after 60 s."""
        async with asyncio.timeout(60), self._changed:
            await self._changed.wait_for(is_so)

    def push(self, response: stream_pb2.ConnectResponse) -> None:
        """Send to the present stream."""
        self._outbox.put_nowait(response)

    @property
    def sequences(self) -> list[int]:
        return [batch.sequence for batch in self.batches]

    @asynccontextmanager
    async def serve(
        self, port: int = 0, credentials: grpc.ServerCredentials | None = None
    ) -> AsyncIterator["FakeCollector"]:
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        stream_pb2_grpc.add_CollectorServiceServicer_to_server(self, server)
        if credentials is None:
            self.port = server.add_insecure_port(f"127.0.0.1:{port}")
        else:
            self.port = server.add_secure_port(f"127.0.0.1:{port}", credentials)
        await server.start()
        try:
            yield self
        finally:
            await server.stop(grace=None)
