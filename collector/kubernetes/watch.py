"""Lists and watches one kind of object: keeps a ClusterState up to date from the API server. Edge.

It works like client-go's reflector. It lists in pages, watches from the list's version with bookmarks, and resumes a
watch where it ended. It lists again after 410, and waits longer after each failure, with jitter. A watch that sends
nothing, not even a bookmark, for longer than requested is dead and is dropped.
"""

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import httpx2
import msgspec
from lightkube.core.exceptions import ConfigError

from collector.kubernetes import objects
from collector.kubernetes.objects import ApiStatus, Bookmark, KubernetesObject, WatchEvent, list_type
from collector.kubernetes.state import ClusterState
from common.figures import total
from common.retry import Backoff

PAGE_OBJECTS = 500
WATCH_SECONDS = (300, 600)  # Drawn for each watch, so that those of many clients do not end together.
_SILENCE_SECONDS = 30.0  # Past the end of a watch.
FIRST_REST_SECONDS = 0.5
MAX_REST_SECONDS = 30.0
SHORT_SECONDS = 1.0  # A watch that the server ended sooner is not asked for again at once.
# Where the API server does not know a kind or does not let us read it, that changes when a person does something.
_ABSENT_REST_SECONDS = 300.0
_SHOWN_BYTES = 40  # Of an answer that cannot be read.
_GONE = 410
_REFUSED = frozenset({401, 403})

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One kind at the API server. Without `is_required` a cluster may do without it."""

    kind: type[Any]
    path: str
    is_required: bool = True


class WatchState(StrEnum):
    """How far a watch is."""

    STARTING = "starting"
    CURRENT = "current"  # Listed, and watched from then on.
    ABSENT = "absent"  # The cluster has no such kind.
    FAILING = "failing"


@dataclass(slots=True, kw_only=True)
class WatchCounts:
    """Of all watches of a cluster, since the start."""

    lists: int = total("Whole lists of Kubernetes objects that were read.")
    watches: int = total("Watches of Kubernetes objects that were begun.")
    events: int = total("Changes of Kubernetes objects, and bookmarks, that watches brought.")
    failures: int = total("Requests and watches of the Kubernetes API that failed.")


class GoneError(Exception):
    """The version is too old: list anew."""


class ApiError(Exception):
    """What the API server or the way to it refused; one sentence."""

    def __init__(self, sentence: str, status: int = 0) -> None:
        super().__init__(sentence)
        self.status = status


class ResourceWatch:
    """Keeps one kind of a state. Runs in the event loop that owns the state."""

    def __init__(
        self,
        client: httpx2.AsyncClient,
        resource: Resource,
        state: ClusterState,
        counts: WatchCounts,
        *,
        draw: Callable[[], float] = random.random,
        rest: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`draw` gives numbers in [0, 1)."""
        self._client = client
        self._resource = resource
        self._state = state
        self._counts = counts
        self._draw = draw
        self._rest = rest
        self._version = ""
        self._list = msgspec.json.Decoder(list_type(resource.kind))
        self._object = msgspec.json.Decoder(resource.kind)
        self._event = msgspec.json.Decoder(WatchEvent)
        self.status = WatchState.STARTING
        self.reason = ""
        self._backoff = Backoff(
            first_seconds=FIRST_REST_SECONDS, longest_seconds=MAX_REST_SECONDS, jitter=0.5, draw=draw
        )

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self._look()
            except GoneError:
                self._version = ""
            except (ApiError, ConfigError, httpx2.HTTPError, msgspec.DecodeError, OSError) as error:
                await self._rest(self._fail(error))

    async def _look(self) -> None:
        """A list where there is none yet, then one watch."""
        if not self._version:
            self._version = await self._read_list()
            self._succeed()
        started_at = time.monotonic()
        await self._follow()
        if time.monotonic() - started_at < SHORT_SECONDS:
            await self._rest(self._backoff.spread(FIRST_REST_SECONDS))

    def _succeed(self) -> None:
        self.status, self.reason = WatchState.CURRENT, ""
        self._backoff.reset()

    def _fail(self, error: Exception) -> float:
        """Keep account of a failure; the seconds until the next try."""
        status = error.status if isinstance(error, ApiError) else 0
        if status == 404 and not self._resource.is_required:
            self.status, self.reason = WatchState.ABSENT, ""
            self._state.replace(self._resource.kind, {})
            return self._backoff.spread(_ABSENT_REST_SECONDS)
        self._counts.failures += 1
        seconds = self._backoff.next_seconds(_ABSENT_REST_SECONDS if status in _REFUSED else None)
        # A watch that broke off goes on where it was; what is known stays good meanwhile.
        if self.status is not WatchState.CURRENT or self._backoff.failures > 1:
            reason = f"{self._resource.path}: {str(error) or type(error).__name__}"
            if reason != self.reason:  # Once, not at each try.
                logger.warning("Kubernetes: %s", reason)
            self.status, self.reason = WatchState.FAILING, reason
        return seconds

    @property
    def _headers(self) -> dict[str, str]:
        """After a failure the connection is not used again: another one may lead to a server, or past a proxy, that is
        well."""
        return {"Connection": "close"} if self._backoff.failures else {}

    async def _read_list(self) -> str:
        """Every page; the version of the list."""
        asked = {"limit": str(PAGE_OBJECTS)}
        keep = self._state.begin(self._resource.kind)
        while True:
            response = await self._client.get(self._resource.path, params=asked, headers=self._headers)
            _check(response.status_code, response.content)
            page = _decode(self._list, response.content)
            keep.add(page.items or ())
            if not page.metadata.continue_:
                break
            asked["continue"] = page.metadata.continue_
        self._counts.lists += 1
        keep.finish()
        return str(page.metadata.resource_version)

    async def _follow(self) -> None:
        """One watch, from the version that is known; returns when the server ends it."""
        seconds = int(WATCH_SECONDS[0] + self._draw() * (WATCH_SECONDS[1] - WATCH_SECONDS[0]))
        asked = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(seconds),
        }
        timeout = httpx2.Timeout(_SILENCE_SECONDS, read=seconds + _SILENCE_SECONDS)
        path, headers = self._resource.path, self._headers
        async with self._client.stream("GET", path, params=asked, timeout=timeout, headers=headers) as response:
            if response.status_code != 200:
                _check(response.status_code, await response.aread())
            self._counts.watches += 1
            # That it began says little: what it says may be nothing that can be read.
            lasted = asyncio.get_running_loop().call_later(SHORT_SECONDS, self._succeed)
            try:
                async for line in _read_lines(response):
                    self._take(_decode(self._event, line))
                    self._succeed()
            finally:
                lasted.cancel()

    def _take(self, event: WatchEvent) -> None:
        self._counts.events += 1
        if event.type == "ERROR":
            status = msgspec.json.decode(event.object, type=ApiStatus)
            _refuse(status.code, status)
        if event.type == "BOOKMARK":
            self._version = msgspec.json.decode(event.object, type=Bookmark).metadata.resource_version
            return
        one: KubernetesObject = self._object.decode(event.object)
        if event.type == "DELETED":
            self._state.remove(one)
        else:
            self._state.put(one)
        self._version = one.metadata.resource_version


async def _read_lines(response: httpx2.Response) -> AsyncIterator[bytes]:
    """Only LF ends one: what else ends lines of text (U+0085, U+2028) may stand in a value as it is."""
    rest = b""
    async for data in response.aiter_bytes():
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if line:
                yield line
    if rest:
        yield rest


def _decode(decoder: msgspec.json.Decoder[Any], content: bytes) -> Any:
    """Raises ApiError, which shows how the answer begins: a proxy's page, or another server's."""
    try:
        return decoder.decode(content)
    except msgspec.DecodeError as error:
        begun = content[:_SHOWN_BYTES].decode("utf-8", "replace")
        raise ApiError(
            f"the answer, of {len(content)} bytes that begin with {begun!r}, is not what an API server gives "
            f"({error}); give the API server's address in the kubeconfig"
        ) from None


def _check(status: int, content: bytes) -> None:
    """Raises GoneError or ApiError for anything but 200."""
    if status == 200:
        return
    try:
        told = msgspec.json.decode(content, type=ApiStatus)
    except msgspec.DecodeError:
        told = ApiStatus()
    _refuse(status, told)


def _refuse(code: int, status: ApiStatus) -> None:
    if code == _GONE:
        raise GoneError
    hint = {
        401: "; its token is not accepted: give the collector a valid one",
        403: "; give the collector's service account list and watch of it (docs/use/kubernetes.md)",
    }.get(code, "")
    raise ApiError(
        f"the API server answered {code} ({status.message or status.reason or 'no reason given'}){hint}", code
    )


def list_resources() -> Iterator[Resource]:
    """Every kind that the collector watches."""
    for kind, path, is_required in (
        (objects.NamespaceObject, "api/v1/namespaces", True),
        (objects.PodObject, "api/v1/pods", True),
        (objects.ServiceObject, "api/v1/services", True),
        (objects.EndpointSliceObject, "apis/discovery.k8s.io/v1/endpointslices", True),
        (objects.IngressObject, "apis/networking.k8s.io/v1/ingresses", True),
        (objects.NetworkPolicyObject, "apis/networking.k8s.io/v1/networkpolicies", True),
        (objects.GatewayObject, "apis/gateway.networking.k8s.io/v1/gateways", False),
        (objects.HttpRouteObject, "apis/gateway.networking.k8s.io/v1/httproutes", False),
    ):
        yield Resource(kind=kind, path=path, is_required=is_required)
