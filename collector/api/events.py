"""/events: says as server-sent events which topics changed, so that pages and programs ask again only then.

`EventHub` looks at a fingerprint of each topic every INTERVAL_SECONDS, once for all streams and only while there is
one. A fingerprint is of what the process holds in memory: the store is asked nothing. A stream takes no turn among the
requests (collector/api/access.py). It ends with its session, with its client and with the collector.
"""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from collector.api.access import name_client
from collector.api.authenticator import Authenticator
from collector.api.parameters import NoParameters
from collector.api.problem import Problem
from collector.core.scope import EVERYTHING, set_scope
from collector.trust.principal import find_principal
from common.figures import Figure, make_gauges

INTERVAL_SECONDS: Final = 2.0  # At most one event of a topic in so long.
HEARTBEAT_SECONDS: Final = 10.0  # A client that hears nothing for longer than two of these has lost its collector.
STREAMS_MAX: Final = 64
STREAMS_OF_CLIENT_MAX: Final = 8  # A browser has one a tab that is seen.
MEDIA_TYPE: Final = "text/event-stream"
_HEARTBEAT: Final = b": heartbeat\n\n"

logger = logging.getLogger(__name__)


class Topic(StrEnum):
    """What can change."""

    CALLS = "calls"
    ENDPOINTS = "endpoints"
    ALERTS = "alerts"
    FINDINGS = "findings"
    BLOCKS = "blocks"
    SENSORS = "sensors"


Fingerprints = Mapping[Topic, Callable[[], Hashable]]
# What is written when something of a topic changes.
TABLES: Final[Mapping[Topic, tuple[str, ...]]] = {
    Topic.CALLS: ("rows_minute", "log_cursors"),  # The latter where another collector writes the former.
    Topic.ENDPOINTS: ("routes", "endpoint_routes", "endpoint_aliases", "endpoint_specs", "retired_endpoints"),
    Topic.ALERTS: ("alerts", "silences", "incident_entries"),
    Topic.FINDINGS: ("findings", "finding_changes"),
    Topic.SENSORS: ("sensors", "coverage_rows"),
}


def list_fingerprints(count_writes: Callable[[Sequence[str]], int]) -> dict[Topic, Callable[[], Hashable]]:
    """Of all topics that are in tables; `count_writes` as of a store."""
    return {topic: partial(count_writes, tables) for topic, tables in TABLES.items()}


@dataclass(eq=False, slots=True)
class _Listener:
    """One stream."""

    is_admitted: Callable[[], bool]
    changed: set[Topic] = field(default_factory=set)
    is_over: bool = False
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, topics: Iterable[Topic]) -> None:
        """Topics changed."""
        self.changed.update(topics)
        if self.changed:
            self.wake.set()

    def end(self) -> None:
        """Say no more."""
        self.is_over = True
        self.wake.set()


class EventStream(StreamingResponse):
    """The response of one stream; however it ends, it makes room for another."""

    def __init__(self, events: AsyncIterator[bytes], leave: Callable[[], None]) -> None:
        super().__init__(events, media_type=MEDIA_TYPE)
        self._leave = leave

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._leave()


class EventHub:
    """The one source of all streams. Used in the event loop; `close` from any thread."""

    def __init__(self, fingerprints: Fingerprints, *, interval_seconds: float = INTERVAL_SECONDS) -> None:
        """`fingerprints`: functions that are quick, are called in a thread, and give another value after a change."""
        self._fingerprints = fingerprints
        self._interval_seconds = interval_seconds
        self._listeners: dict[_Listener, str] = {}  # And whose each is.
        self._watching: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_looking = asyncio.Event()  # Set from the first look on: what changes after it is seen.
        self._is_closed = False

    def figures(self) -> tuple[Figure, ...]:
        """For metrics."""
        return make_gauges([("http_event_streams", "Streams of events that are open.", len(self._listeners))])

    @property
    def is_followed(self) -> bool:
        """Whether a stream is open."""
        return bool(self._listeners)

    def open(self, client: str, is_admitted: Callable[[], bool]) -> "EventStream":
        """One stream, until nobody reads it or `is_admitted` no longer holds. Raises Problem where there is no room."""
        if self._is_closed:
            raise Problem(503, "The collector is stopping; try again in a few seconds.", {"retry-after": "5"})
        if len(self._listeners) >= STREAMS_MAX:
            raise _make_refusal(f"{len(self._listeners)} streams of events are open")
        if (own := Counter(self._listeners.values())[client]) >= STREAMS_OF_CLIENT_MAX:
            raise _make_refusal(f"{own} streams of events of this client are open")
        listener = _Listener(is_admitted)
        self._listeners[listener] = client
        if self._watching is None or self._watching.done():
            self._loop = asyncio.get_running_loop()
            self._is_looking.clear()
            self._watching = asyncio.create_task(self._watch())
        return EventStream(self._read(listener), lambda: self._leave(listener))

    def close(self) -> None:
        """End all streams, and open no more."""
        self._is_closed = True
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._end_all)

    def _end_all(self) -> None:
        for listener in self._listeners:
            listener.end()

    def _leave(self, listener: _Listener) -> None:
        self._listeners.pop(listener, None)

    async def _read(self, listener: _Listener) -> AsyncIterator[bytes]:
        await self._is_looking.wait()
        yield write_event("hello", [*self._fingerprints])
        while not listener.is_over:
            try:
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    await listener.wake.wait()
            except TimeoutError:
                yield _HEARTBEAT
            listener.wake.clear()
            if listener.changed:
                changed, listener.changed = sorted(listener.changed), set()
                yield write_event("change", changed)

    async def _watch(self) -> None:
        """Looks as long as somebody listens: for all, whoever was the first."""
        set_scope(EVERYTHING)
        try:
            seen = await asyncio.to_thread(self._look)
            self._is_looking.set()
            while self._listeners:
                await asyncio.sleep(self._interval_seconds)
                now = await asyncio.to_thread(self._look)
                changed = [topic for topic, value in now.items() if seen[topic] != value]
                seen = now
                for listener in self._listeners:
                    listener.note(changed)
                for listener in await asyncio.to_thread(_find_refused, [*self._listeners]):
                    listener.end()
        except Exception:
            logger.exception("What changed could not be seen; the streams of events end, and their clients come again.")
            self._end_all()
        finally:
            self._is_looking.set()  # Whoever waits for it goes on, or ends.

    def _look(self) -> dict[Topic, Hashable]:
        return {topic: read() for topic, read in self._fingerprints.items()}


def _find_refused(listeners: Iterable[_Listener]) -> list[_Listener]:
    return [listener for listener in listeners if not listener.is_admitted()]


def _make_refusal(sentence: str) -> Problem:
    return Problem(503, f"{sentence}, which is the limit; close one.", {"retry-after": "10"})


def write_event(name: str, topics: Iterable[Topic]) -> bytes:
    """One event with the topics that it is about."""
    return f"event: {name}\ndata: {json.dumps({'topics': [*topics]})}\n\n".encode()


def build_event_routes(*, events: EventHub, authenticator: Authenticator) -> APIRouter:
    """The stream."""
    router = APIRouter(tags=["operation"])

    @router.get(
        "/events",
        summary="Stream of changes",
        response_class=StreamingResponse,
        responses={200: {"description": "Events until the client leaves.", "content": {MEDIA_TYPE: {}}}},
    )
    async def stream_events(request: Request, _: Annotated[NoParameters, Query()]) -> EventStream:
        """Server-sent events. `hello` comes first; `change` names the topics that changed, each at most every two
        seconds. A comment every ten seconds shows that the collector is there."""
        principal = find_principal()
        return events.open(name_client(request.scope), lambda: authenticator.is_still(request, principal))

    return router
