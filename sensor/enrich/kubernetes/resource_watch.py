"""Lists and watches one kind of Kubernetes object: what the API server holds, and every change of it, in a thread.

It follows "Efficient detection of changes" of the Kubernetes API concepts. A list in parts comes first, then a watch
from its resourceVersion. The watch is resumed from the last event's or BOOKMARK's version. A new list follows 410 Gone
and every error that leaves the version in doubt. Between tries it waits, twice as long after each failure, drawn from
the whole interval ("full jitter"), so that the sensors of a thousand nodes do not return together.

Connection, credentials and TLS are lightkube's. Its watch is not used: lightkube 1.0.1 asks for no bookmarks, opens the
next watch without a pause, and waits for ever on a dead connection (lightkube/core/generic_client.py). When nothing
changes, this watch makes a request every 5 to 10 minutes.
"""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import httpx2
import msgspec
from lightkube import ConfigError, KubeConfig
from lightkube.config import client_adapter

from common.figures import total
from common.retry import Backoff

logger = logging.getLogger(__name__)
# It tells each request, which is for who debugs it.
logging.getLogger("httpx2").setLevel(logging.WARNING)

LIST_LIMIT: Final = 500
WATCH_SECONDS: Final = (300, 600)
FIRST_REST_SECONDS: Final = 1.0
MAX_REST_SECONDS: Final = 60.0
# A watch that ends sooner than this is no rest: a server or a proxy in between that hangs up at once.
MIN_WATCH_SECONDS: Final = 5.0
_TIMEOUT: Final = httpx2.Timeout(15.0)
# A line is one object: etcd takes at most 1.5 MB of one.
_MAX_LINE_BYTES: Final = 4 * 1024 * 1024
# Half a minute after the other end or the way to it died, the connection is dead here too.
_SOCKET_OPTIONS: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)

T = TypeVar("T", bound=msgspec.Struct)


class AccessError(Exception):
    """The API server cannot be used as configured; one sentence that says why and what to do."""


class _GoneError(Exception):
    """The version to resume from is too old."""


def open_client(kubeconfig: Path | None) -> httpx2.Client:
    """A client of the API server: of the Pod's service account, or of a kubeconfig's current context.

    Raises `AccessError`.
    """
    try:
        config = (KubeConfig.from_file(kubeconfig) if kubeconfig else KubeConfig.from_service_account()).get()
        assert config is not None
        verify = client_adapter.verify_cluster(config.cluster, config.user, config.abs_file) if config.user else True
        transport = httpx2.HTTPTransport(verify=verify, socket_options=_SOCKET_OPTIONS)
        return client_adapter.Client(
            config, client_adapter.ConnectionParams(timeout=_TIMEOUT, trust_env=False, transport=transport)
        )
    except (ConfigError, OSError, ValueError, AssertionError) as error:
        source = f"the kubeconfig {kubeconfig}" if kubeconfig else "the service account of this Pod"
        raise AccessError(
            f"the Kubernetes API cannot be reached with {source}: {error or type(error).__name__}"
        ) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource(Generic[T]):
    """What is listed and watched. `type` decodes one object; it has `metadata.resource_version`."""

    path: str  # `/api/v1/pods`
    type: type[T]
    selector: tuple[tuple[str, str], ...] = ()  # (fieldSelector or labelSelector, its text).


@dataclass(frozen=True, slots=True, kw_only=True)
class Sink(Generic[T]):
    """Who is told. Called in the watch's thread."""

    replace: Callable[[Sequence[T]], None]
    put: Callable[[T], None]
    remove: Callable[[T], None]


@dataclass(slots=True)
class WatchCounts:
    """What happened so far."""

    requests: int = total("Requests to the Kubernetes API.")
    lists: int = total("Whole lists of objects that were read.")
    events: int = total("Changes of objects that watches brought.")
    gone: int = total("Times that the version to resume from was too old, so all was listed anew.")
    broken: int = total("Watches whose connection broke; each was resumed where it was.")
    errors: int = total("Requests and watches that failed.")
    skipped: int = total("Objects that the sensor could not read; the others are followed.")


class _ListMetadata(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(name="continue", default="")


class _List(msgspec.Struct):
    items: list[msgspec.Raw]
    metadata: _ListMetadata


class _Versioned(msgspec.Struct):
    metadata: _ListMetadata


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Status(msgspec.Struct):
    code: int = 0
    message: str = ""


class ResourceWatch(Generic[T]):
    """Keeps one kind of object up to date in a thread of its own."""

    def __init__(
        self,
        resource: Resource[T],
        sink: Sink[T],
        *,
        open_client: Callable[[], httpx2.Client],
        random_source: Callable[[], float],
        name: str,
        clock: Callable[[], float] = time.monotonic,
        first_rest_seconds: float = FIRST_REST_SECONDS,
    ) -> None:
        """`random_source`: [0, 1). `name` is for the log: what is watched."""
        self._resource = resource
        self._sink = sink
        self._open_client = open_client
        self._random = random_source
        self._name = name
        self._clock = clock
        self._decoder = msgspec.json.Decoder(resource.type)
        self._list_decoder = msgspec.json.Decoder(_List)
        self._event_decoder = msgspec.json.Decoder(_Event)
        self._versioned_decoder = msgspec.json.Decoder(_Versioned)
        self._version = ""
        self._backoff = Backoff(
            first_seconds=first_rest_seconds, longest_seconds=MAX_REST_SECONDS, jitter=1.0, draw=random_source
        )
        self._is_stopping = threading.Event()
        self._has_listed = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"apidae-{name.replace(' ', '-')}", daemon=True)
        self._client: httpx2.Client | None = None
        self.counts = WatchCounts()
        self.last_error = ""  # Empty while the watch works.
        self.last_contact = float("-inf")  # Monotonic seconds of the last answer or event.

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread, at once where it rests, and with the next bytes or its timeout where it reads."""
        self._is_stopping.set()

    def join(self, timeout_seconds: float) -> bool:
        """Waits for the thread's end at most so long; says whether it came."""
        if self._thread.ident is not None:
            self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def wait_listed(self, timeout_seconds: float) -> bool:
        """Whether all objects were there once, waiting for it at most so long."""
        return self._has_listed.wait(timeout_seconds)

    @property
    def is_current(self) -> bool:
        """Whether changes are followed now."""
        return self._has_listed.is_set() and not self.last_error

    def _run(self) -> None:
        while not self._is_stopping.is_set():
            started, is_regular = self._clock(), False
            try:
                self._follow()
            except _GoneError:
                self.counts.gone += 1
                self._version = ""
            except Exception as error:  # The thread's boundary: the API may answer anything at any time.
                self._note_failure(error)
                self._close()
            else:
                # Ended by the server, as it should; sooner than that it would be asked again and again.
                is_regular = self._clock() - started >= MIN_WATCH_SECONDS
            if is_regular:
                self._backoff.reset()
            else:
                self._is_stopping.wait(self._backoff.next_seconds())
        self._close()

    def _close(self) -> None:
        """The next try begins with credentials and authorities read anew."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _follow(self) -> None:
        """One watch to its end, with a list before it where there is no version to go on from."""
        client = self._client
        if client is None:
            client = self._client = self._open_client()
        if not self._version:
            self._list(client)
        self._watch(client)

    def _list(self, client: httpx2.Client) -> None:
        found: list[T] = []
        parameters: dict[str, Any] = {"limit": LIST_LIMIT, **dict(self._resource.selector)}
        while True:
            self.counts.requests += 1
            response = client.get(self._resource.path, params=parameters)
            _check(response.status_code, response.content)
            part = self._list_decoder.decode(response.content)
            found += [item for raw in part.items if (item := self._decode(raw)) is not None]
            if not part.metadata.continue_:
                break
            parameters["continue"] = part.metadata.continue_
        self.counts.lists += 1
        self._version = part.metadata.resource_version
        self._sink.replace(found)
        self._note_success()
        self._has_listed.set()

    def _watch(self, client: httpx2.Client) -> None:
        low, high = WATCH_SECONDS
        seconds = int(low + (high - low) * self._random())
        parameters: dict[str, Any] = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": seconds,
            **dict(self._resource.selector),
        }
        timeout = httpx2.Timeout(_TIMEOUT.connect, read=seconds + 15.0)
        self.counts.requests += 1
        with client.stream("GET", self._resource.path, params=parameters, timeout=timeout) as response:
            if response.status_code != 200:
                _check(response.status_code, response.read())
            self._note_success()
            try:
                for line in _split_lines(response.iter_bytes()):
                    if self._is_stopping.is_set():
                        return
                    self._take(line)
            except httpx2.TransportError:
                # What lies between breaks off long connections now and then; what was told is told, so it is resumed.
                self.counts.broken += 1

    def _take(self, line: bytes) -> None:
        event = self._event_decoder.decode(line)
        if event.type == "ERROR":
            status = msgspec.json.decode(event.object, type=_Status)
            _check(status.code, bytes(event.object))
            raise ConnectionError(f"the watch was told an error: {status.message[:200]}")
        version = self._versioned_decoder.decode(event.object).metadata.resource_version
        self._backoff.reset()
        self.last_contact = self._clock()
        if event.type != "BOOKMARK" and (item := self._decode(event.object)) is not None:
            self.counts.events += 1
            try:
                (self._sink.remove if event.type == "DELETED" else self._sink.put)(item)
            except Exception:
                self._skip()
        self._version = version

    def _decode(self, raw: msgspec.Raw) -> T | None:
        """None of an object that is not as it should be: it keeps no other from being followed."""
        try:
            return self._decoder.decode(raw)
        except Exception:
            self._skip()
            return None

    def _skip(self) -> None:
        self.counts.skipped += 1
        logger.exception("%s: an object of the Kubernetes API cannot be taken up; it is skipped", self._name)

    def _note_success(self) -> None:
        self.last_contact = self._clock()
        if self.last_error:
            logger.info("%s: the Kubernetes API answers again", self._name)
        self.last_error = ""

    def _note_failure(self, error: Exception) -> None:
        self.counts.errors += 1
        # What is said of an address names it; a body of an answer may hold anything, so `_check` names only its status.
        message = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        if not self.last_error:
            logger.warning(
                "%s: the Kubernetes API does not answer (%s); names stay as they are, new Pods are named by container "
                "id until it does; told once",
                self._name,
                message,
            )
        self.last_error = message


def _check(status: int, content: bytes) -> None:
    """Raises for an answer other than 200."""
    if status == 410:
        raise _GoneError
    if status == 403:
        raise PermissionError("forbidden (403): the service account may not list and watch; see docs/use/kubernetes.md")
    if status == 401:
        raise PermissionError("unauthorized (401): the token is not accepted")
    if status != 200:
        raise ConnectionError(f"answered with status {status} and {len(content)} bytes")


def _split_lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Lines of a stream, without their ends; a rest without an end is none."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > _MAX_LINE_BYTES:
            raise ValueError(f"a line of the watch is longer than {_MAX_LINE_BYTES} bytes")
        yield from (line for line in lines if line)
