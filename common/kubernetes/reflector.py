"""Lists and watches one kind of Kubernetes object: what the API server holds, and every change of it.

It follows "Efficient detection of changes" of the Kubernetes API concepts, as client-go's reflector does. A list in
pages comes first, then a watch from its resourceVersion. The watch is resumed from the last event's or BOOKMARK's
version. A new list follows 410 Gone. Between tries it waits, longer after each failure. The wait is drawn from the
whole interval ("full jitter"), so that the sensors of a thousand nodes do not return together.

Connection, credentials and TLS are lightkube's. Its watch is not used: lightkube 1.0.1 asks for no bookmarks, opens the
next watch without a pause, and waits for ever on a dead connection (lightkube/core/generic_client.py). When nothing
changes, this watch makes a request every 5 to 10 minutes.
"""

import asyncio
import contextlib
import logging
import os
import random
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import msgspec

from common.figures import total
from common.kubernetes.objects import Metadata, Part
from common.retry import Backoff

if TYPE_CHECKING:  # With lightkube 6 MB, which who follows no cluster does without.
    import httpx2

logger = logging.getLogger(__name__)
# It logs each request, which is for who debugs it.
logging.getLogger("httpx2").setLevel(logging.WARNING)

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
PAGE_OBJECTS: Final = 500
# Of one kind. Kubernetes itself is built for 150,000 Pods, some 100 MB here.
OBJECTS_MAX: Final = 150_000
WATCH_SECONDS: Final = (300, 600)  # Drawn for each watch, so that those of many clients do not end together.
FIRST_REST_SECONDS: Final = 1.0
MAX_REST_SECONDS: Final = 60.0
# Drawn, as the above. Where the API server does not know a kind, that changes when a person installs it. A restart asks
# at once.
ABSENT_REST_SECONDS: Final = (1_800.0, 3_600.0)
# A server or a proxy in between that ends watches sooner than this is not asked again at once.
MIN_WATCH_SECONDS: Final = 5.0
# A watch of which nothing bad was heard for so long is well; that it began says little.
_SETTLED_SECONDS: Final = 1.0
_TIMEOUT_SECONDS: Final = 15.0
_SILENCE_SECONDS: Final = 30.0  # Past the end of a watch.
# A line is one object: etcd takes at most 1.5 MB of one.
_LINE_BYTES_MAX: Final = 4 * 1024 * 1024
_SHOWN_BYTES: Final = 40  # Of an answer that cannot be read.
# Half a minute after the other end or the way to it died, the connection is dead here too.
_SOCKET_OPTIONS: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)
_HINTS: Final = {
    401: "; its token is not accepted: give a valid one",
    403: "; give the service account this right (docs/use/kubernetes.md)",
}

T = TypeVar("T")
Kept = TypeVar("Kept")
OpenClient = Callable[[], "httpx2.AsyncClient"]


class AccessError(Exception):
    """The API server cannot be asked as configured; one sentence that names the file and the fix."""


class ApiError(Exception):
    """What the API server or the way to it refused; one sentence."""

    def __init__(self, sentence: str, status: int = 0) -> None:
        super().__init__(sentence)
        self.status = status


class _GoneError(ApiError):
    """The version to resume from is too old."""


def is_in_cluster() -> bool:
    """Whether this process is a Pod with a service account's token."""
    return "KUBERNETES_SERVICE_HOST" in os.environ and (SERVICE_ACCOUNT / "token").is_file()


def open_client(kubeconfig: Path | None, account_dir: Path = SERVICE_ACCOUNT) -> "httpx2.AsyncClient":
    """A client of the kubeconfig's current context, or of the Pod's service account without one. Raises AccessError.

    lightkube reads a service account's token again after a 401."""
    import httpx2
    from lightkube.config.client_adapter import AsyncClient, ConnectionParams, verify_cluster
    from lightkube.config.kubeconfig import KubeConfig
    from lightkube.core.exceptions import ConfigError

    try:
        config = (
            KubeConfig.from_file(kubeconfig) if kubeconfig else KubeConfig.from_service_account(account_dir)
        ).get()
        if config is None or config.user is None:
            raise ConfigError("it has no current context with a user")
        verify = verify_cluster(config.cluster, config.user, config.abs_file, trust_env=False)
        transport = httpx2.AsyncHTTPTransport(verify=verify, socket_options=_SOCKET_OPTIONS)
        # The node's proxy variables are for other servers; as client-go, only those in the configuration count.
        parameters = ConnectionParams(
            timeout=httpx2.Timeout(_TIMEOUT_SECONDS),
            trust_env=False,
            transport=transport,  # type: ignore[arg-type]
        )
        return AsyncClient(config, parameters)
    except (ConfigError, OSError, LookupError, ValueError, TypeError, AssertionError) as error:
        source = f"the kubeconfig {kubeconfig}" if kubeconfig else f"this Pod's service account in {account_dir}"
        detail = f"it has no {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
        raise AccessError(f"{source} cannot be used ({detail}); correct it") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource(Generic[T, Kept]):
    """One kind at the API server, and who follows it. The functions are called in the reflector's event loop."""

    name: str  # For the log.
    path: str  # `/api/v1/pods`
    type: type[T]  # Decodes one object.
    read: Callable[[T], Kept]  # What is kept of one object; one for which it raises is skipped and counted.
    replace: Callable[[list[Kept]], None]  # All there are: what is not among them is gone.
    put: Callable[[Kept], None]
    remove: Callable[[Kept], None]
    selector: tuple[tuple[str, str], ...] = ()  # (fieldSelector or labelSelector, its text).
    is_required: bool = True  # Else a cluster may do without this kind, or not let us read it.
    older_paths: tuple[str, ...] = ()  # Of older versions, which are tried where the API does not know `path`.


@dataclass(slots=True)
class WatchCounts:
    """What happened so far."""

    requests: int = total("Requests to the Kubernetes API.")
    lists: int = total("Whole lists of Kubernetes objects that were read.")
    events: int = total("Changes of Kubernetes objects, and bookmarks, that watches brought.")
    gone: int = total("Times that the version to resume from was too old, so all was listed anew.")
    broken: int = total("Watches whose connection broke; each was resumed where it was.")
    failures: int = total("Requests and watches of the Kubernetes API that failed.")
    skipped: int = total("Kubernetes objects that could not be read; the others are followed.")
    objects_dropped: int = total("Kubernetes objects beyond the most of a kind that are kept.")


class _ListMetadata(Part, frozen=True, kw_only=True):
    resource_version: str = ""
    continue_: str = msgspec.field(name="continue", default="")


class _Page(Part, frozen=True, kw_only=True):
    items: list[msgspec.Raw] | None = None
    metadata: _ListMetadata


class _Event(Part, frozen=True, kw_only=True):
    """One line of a watch; `object` is decoded by its type."""

    type: str
    object: msgspec.Raw


class _Versioned(Part, frozen=True, kw_only=True):
    metadata: Metadata = Metadata()


class _Status(Part, frozen=True, kw_only=True):
    """What the API server says where it refuses."""

    code: int = 0
    reason: str = ""
    message: str = ""


class Reflector(Generic[T, Kept]):
    """Keeps one kind of object up to date. Other threads may read its attributes."""

    def __init__(
        self,
        resource: Resource[T, Kept],
        open_client: OpenClient,
        counts: WatchCounts | None = None,
        *,
        draw: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`open_client` may raise `AccessError`; it is tried again. `draw` gives numbers in [0, 1)."""
        self._resource = resource
        self._open_client = open_client
        self._draw = draw
        self._clock = clock
        self._client: httpx2.AsyncClient | None = None
        self._version = ""
        self._paths = (resource.path, *resource.older_paths)
        self._path = resource.path
        self._has_listed = False
        self._object = msgspec.json.Decoder(resource.type)
        self._backoff = Backoff(
            first_seconds=FIRST_REST_SECONDS, longest_seconds=MAX_REST_SECONDS, jitter=1.0, draw=draw
        )
        self.counts = counts or WatchCounts()
        self.is_current = False  # Listed, and followed from then on; or the cluster has no such kind.
        self.reason = ""  # Why it is not; empty before the first answer too.
        self.last_contact = float("-inf")  # Seconds of `clock` at the last list or event.

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                await asyncio.sleep(await self._follow())
        finally:
            await self._close()

    async def _close(self) -> None:
        """The next try begins with a new connection, and with credentials and authorities read anew."""
        client, self._client = self._client, None
        with contextlib.suppress(Exception):  # It may be broken, and is not used again.
            if client is not None:
                await client.aclose()

    async def _follow(self) -> float:
        """One watch to its end, after a list where no version is known; the seconds to wait before the next."""
        started_at = self._clock()
        try:
            client = self._client = self._client or self._open_client()
            if not self._version:
                await self._list(client)
            await self._watch(client)
        except _GoneError:
            self.counts.gone += 1
            self._version = ""
            return self._backoff.next_seconds()
        except Exception as error:  # The loop's boundary: a server may answer anything at any time.
            await self._close()
            return self._note_failure(error)
        if self._clock() - started_at < MIN_WATCH_SECONDS:
            return self._backoff.next_seconds()
        self._backoff.reset()
        return 0.0

    async def _list(self, client: "httpx2.AsyncClient") -> None:
        parameters = {"limit": str(PAGE_OBJECTS), **dict(self._resource.selector)}
        kept: list[Kept] = []
        while True:
            self.counts.requests += 1
            response = await client.get(self._path, params=parameters)
            _check(response.status_code, response.content)
            page = _decode(_Page, response.content)
            for raw in page.items or ():
                if len(kept) >= OBJECTS_MAX:
                    self.counts.objects_dropped += 1
                else:
                    self._use(raw, kept.append)
            if not page.metadata.continue_:
                break
            parameters["continue"] = page.metadata.continue_
        self.counts.lists += 1
        self._resource.replace(kept)
        self._has_listed = True
        self._version = page.metadata.resource_version
        self._note_success()

    async def _watch(self, client: "httpx2.AsyncClient") -> None:
        """From the version that is known; returns when the server ends it, or its connection broke."""
        import httpx2

        seconds = int(self._pick(WATCH_SECONDS))
        parameters = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(seconds),
            **dict(self._resource.selector),
        }
        timeout = httpx2.Timeout(_TIMEOUT_SECONDS, read=seconds + _SILENCE_SECONDS)
        self.counts.requests += 1
        async with client.stream("GET", self._path, params=parameters, timeout=timeout) as response:
            if response.status_code != 200:
                _check(response.status_code, await response.aread())
            settled = asyncio.get_running_loop().call_later(_SETTLED_SECONDS, self._note_success)
            try:
                async for line in _split_lines(response.aiter_bytes()):
                    self._apply(_decode(_Event, line))
                    self._backoff.reset()
                    self._note_success()
            except httpx2.TransportError:
                # What lies between breaks off long connections now and then. Nothing is lost: the watch is resumed.
                self.counts.broken += 1
            finally:
                settled.cancel()

    def _apply(self, event: _Event) -> None:
        self.counts.events += 1
        if event.type == "ERROR":
            status = _decode(_Status, event.object)
            _refuse(status.code, status)
        if event.type != "BOOKMARK":
            self._use(event.object, self._resource.remove if event.type == "DELETED" else self._resource.put)
        with contextlib.suppress(ApiError):  # Of one that was skipped; the next one has a version.
            self._version = _decode(_Versioned, event.object).metadata.resource_version

    def _use(self, raw: msgspec.Raw, use: Callable[[Kept], None]) -> None:
        """One object that is not as it should be keeps no other from being followed."""
        try:
            use(self._resource.read(self._object.decode(raw)))
        except Exception:
            self.counts.skipped += 1
            logger.exception("%s: an object of the Kubernetes API cannot be read; it is skipped", self._resource.name)

    def _pick(self, bounds: tuple[float, float]) -> float:
        low, high = bounds
        return low + (high - low) * self._draw()

    def _note_success(self) -> None:
        if self.reason:
            logger.info("%s: the Kubernetes API answers again", self._resource.name)
        self.last_contact = self._clock()
        self.is_current, self.reason = True, ""

    def _note_failure(self, error: Exception) -> float:
        """Keeps account of a failure; the seconds until the next try."""
        status = error.status if isinstance(error, ApiError) else 0
        if status == 404 and self._path != self._paths[-1]:
            self._path, self._version = self._paths[self._paths.index(self._path) + 1], ""
            return 0.0
        # A right that was taken away is a failure; one that was never given is the operator's choice.
        is_refused = status == 403 and not self._has_listed
        if not self._resource.is_required and (status == 404 or is_refused):
            if is_refused and not self.is_current:
                logger.warning("%s: %s are not followed: %s", self._resource.name, self._path, error)
            self._path, self._version = self._paths[0], ""
            self._resource.replace([])
            self.is_current, self.reason = True, ""
            return self._pick(ABSENT_REST_SECONDS)
        self.counts.failures += 1
        reason = f"{self._path}: {str(error) or type(error).__name__}"
        if reason != self.reason:  # Once, not at each try.
            logger.warning("%s: the Kubernetes API does not answer: %s", self._resource.name, reason)
        self.is_current, self.reason = False, reason
        return self._backoff.next_seconds()


async def ask(open_client: OpenClient, path: str, kind: type[T], body: object = None, *, method: str = "") -> T:
    """The answer about one object: a GET, or a POST of `body`, or a PATCH that merges it. Raises AccessError and
    ApiError."""
    import httpx2
    from lightkube.core.exceptions import ConfigError

    method = method or ("GET" if body is None else "POST")
    headers = {"content-type": "application/merge-patch+json"} if method == "PATCH" else None
    try:
        async with open_client() as client:
            response = await client.request(method, path, json=body, headers=headers)
    except (httpx2.HTTPError, ConfigError, OSError) as error:
        raise ApiError(f"the API server does not answer {path} ({error or type(error).__name__})") from None
    _check(response.status_code, response.content)
    return _decode(kind, response.content)


async def _split_lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Only LF ends one: what else ends lines of text (U+0085, U+2028) may stand in a value as it is."""
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > _LINE_BYTES_MAX:
            raise ApiError(f"a line of the watch is longer than {_LINE_BYTES_MAX} bytes")
        for line in lines:
            if line:
                yield line
    if rest:
        yield rest


def _decode(kind: type[T], content: bytes | msgspec.Raw) -> T:
    """Raises ApiError. It shows how an answer begins that is not JSON: a proxy's page, or another server's."""
    try:
        return msgspec.json.decode(content, type=kind)
    except (ValueError, RecursionError) as error:  # Of msgspec, and of text that is not UTF-8.
        answer = bytes(content)
        begun = answer[:_SHOWN_BYTES].decode("utf-8", "replace")
        shown = "" if answer[:1] == b"{" else f" that begin with {begun!r}"
        raise ApiError(
            f"the answer, of {len(answer)} bytes{shown}, is not what an API server gives ({error}); give the API "
            "server's address in the kubeconfig"
        ) from None


def _check(status: int, content: bytes) -> None:
    """Raises _GoneError or ApiError for a refusal."""
    if 200 <= status < 300:
        return
    try:
        answer = msgspec.json.decode(content, type=_Status)
    except (ValueError, RecursionError):
        answer = _Status()
    _refuse(status, answer)


def _refuse(code: int, status: _Status) -> None:
    said = (status.message or status.reason or "no reason given")[:200]
    kind = _GoneError if code == 410 else ApiError
    raise kind(f"the API server answered {code} ({said}){_HINTS.get(code, '')}", code)


class LoopThread:
    """Runs a coroutine in a thread with an event loop of its own. `start` and `stop` from any thread."""

    def __init__(self, run: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        self._main = run
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._is_stopping = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_seconds: float | None = None) -> None:
        """Cancels the coroutine and waits for its end, at most so long."""
        self._is_stopping.set()
        loop, task = self._loop, self._task
        if loop is not None and task is not None:
            with contextlib.suppress(RuntimeError):  # It has ended by itself.
                loop.call_soon_threadsafe(task.cancel)
        if self._thread.ident is not None:
            self._thread.join(timeout_seconds)

    def _run(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(self._live())

    async def _live(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        if not self._is_stopping.is_set():
            await self._main()
