"""A strict fake of the Kubernetes API server, over HTTP on loopback: lists, watches, and everything that goes wrong
with them.

    with ApiServer() as api:
        api.put({"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "shop", "name": "cart-0"}, ...})
        ... a client at api.url with the bearer token api.token ...
        api.disconnect()      # every open watch breaks off in the middle of its stream
        api.compact()         # history is gone: resuming a watch, or a continued list, is 410
        api.refuse(503, 2)    # the next two requests
        api.requests          # what was asked, in order

Serves GET of lists (limit, continue), single objects and watches (resourceVersion, BOOKMARK, timeoutSeconds) of any
kind in tests.cluster.api_objects.KINDS, under `/api/v1` or `/apis/GROUP/VERSION`. A parameter that the real server does
not know is refused here, where the real one would ignore it: a typing mistake in a client must fail.
"""

import base64
import contextlib
import itertools
import json
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.cluster.api_objects import (
    ExpiredError,
    Kind,
    Object,
    ObjectStore,
    Selector,
    SelectorError,
    parse_selector,
    tell_changes,
)

_LIST_PARAMETERS = frozenset(
    (
        *("limit", "continue", "resourceVersion", "resourceVersionMatch", "fieldSelector", "labelSelector"),
        *("watch", "allowWatchBookmarks", "timeoutSeconds", "sendInitialEvents", "pretty"),
    )
)
# The real one draws 30 to 60 minutes where the client names none.
_WATCH_SECONDS = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiRequest:
    """One request as it came; `time` is monotonic seconds."""

    path: str
    parameters: Mapping[str, str]
    status: int
    time: float

    @property
    def is_watch(self) -> bool:
        return self.parameters.get("watch") in ("1", "true")


class ApiServer:
    """The server, running from `with` on in threads of this process. All methods may be called from any thread."""

    def __init__(
        self,
        *,
        certificate: tuple[Path, Path] | None = None,
        port: int = 0,
        bookmark_seconds: float = 0.0,
        objects: ObjectStore | None = None,
    ) -> None:
        """`certificate`: PEM files (certificate, key) for TLS. `bookmark_seconds`: between BOOKMARKs, where a client
        allows them; 0: only those of `bookmark`. Another server may go on with `objects` of one that stopped."""
        self.objects = objects or ObjectStore()
        self.token = secrets.token_urlsafe(16)
        self.requests: list[ApiRequest] = []
        self.may_answer = threading.Event()  # Nothing is answered before it is set.
        self.may_answer.set()
        self.page = b""  # Instead of each answer, as of a server that is none of Kubernetes.
        self.strange = 0  # So many of the next connections lead to such a server, as long as they last.
        self.is_410_a_status = False  # 410 of a watch as the status of the answer; else as an ERROR event, as mostly.
        self.forbidden: set[str] = set()  # Plurals that the token may not read: 403.
        self.bookmark_seconds = bookmark_seconds
        self._refusals: list[int] = []
        self._epoch = 0  # Of connections: watches of an older one end.
        self._bookmarks = 0
        self._open: set[socket.socket] = set()
        self._lists: dict[tuple[int, Kind, str, Selector], list[Object]] = {}  # Those that go on.
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.api = self
        self._scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            self._scheme = "https"
        self.port: int = self._server.server_address[1]
        self.url = f"{self._scheme}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, name="fake-api", daemon=True
        )

    def __enter__(self) -> "ApiServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stops listening and breaks every connection off."""
        self._server.shutdown()
        self._server.server_close()
        self.disconnect()

    def put(self, item: Mapping[str, Any]) -> Object:
        """Creates or replaces an object."""
        return self.objects.put(item)

    def delete(self, item: Mapping[str, Any]) -> None:
        """Deletes the object of this kind, namespace and name."""
        self.objects.delete(item)

    def bookmark(self) -> None:
        """A BOOKMARK on every watch that allows them."""
        with self.objects.changed:
            self._bookmarks += 1
            self.objects.changed.notify_all()

    def compact(self) -> None:
        """Forgets the history: lists that go on and watches from an older revision are 410."""
        self.objects.compact()

    def refuse(self, status: int, count: int = 1) -> None:
        """Answers the next `count` requests with this status (429 and 503 say Retry-After: 1)."""
        self._refusals += [status] * count

    def end_watches(self) -> None:
        """Ends every watch as the real server does at its timeout: the stream is complete."""
        with self.objects.changed:
            self._epoch += 1
            self.objects.changed.notify_all()

    def disconnect(self) -> None:
        """Breaks every connection off where it stands."""
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.end_watches()

    def wait_watches(self, count: int, *, after: int = 0, timeout_seconds: float = 10.0) -> None:
        """Waits until so many watches were asked for in all, of requests from number `after` on."""
        deadline = time.monotonic() + timeout_seconds
        while sum(request.is_watch for request in self.requests[after:]) < count:
            assert time.monotonic() < deadline, f"{count} watches did not come: {self.requests[after:]}"
            time.sleep(0.005)

    def write_kubeconfig(self, path: Path) -> Path:
        """A kubeconfig that names this server and its token."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "fake",
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
            "clusters": [{"name": "fake", "cluster": {"server": self.url}}],
            "users": [{"name": "fake", "user": {"token": self.token}}],
        }
        path.write_text(json.dumps(config))
        return path


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128  # As many come at once; a connection that finds it full is tried again after seconds.
    api: ApiServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is nothing to tell."""


class _RefusalError(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        api = self.server.api
        api._open.add(self.connection)
        self._is_strange = api.strange > 0
        api.strange -= self._is_strange

    def finish(self) -> None:
        self.server.api._open.discard(self.connection)
        super().finish()

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""

    def do_GET(self) -> None:
        api = self.server.api
        split = urlsplit(self.path)
        parameters = dict(parse_qsl(split.query, keep_blank_values=True))
        try:
            answer = self._answer(split.path, parameters)
            status = 200
        except _RefusalError as refusal:
            answer, status = _tell_status(refusal), refusal.status
        api.requests.append(ApiRequest(path=split.path, parameters=parameters, status=status, time=time.monotonic()))
        api.may_answer.wait()
        if api.page or self._is_strange:
            self._write(api.page or b"hello", 200)
        elif isinstance(answer, dict):
            self._write(json.dumps(answer).encode(), status)
        else:
            self._stream(answer)

    def _answer(self, path: str, parameters: dict[str, str]) -> Object | Iterator[Object]:
        api = self.server.api
        if self.headers.get("Authorization") != f"Bearer {api.token}":
            raise _RefusalError(401, "Unauthorized", "Unauthorized")
        if api._refusals:
            status = api._refusals.pop(0)
            raise _RefusalError(status, "ServiceUnavailable", f"refused with {status} by the test")
        kind, namespace, name = self._find(path)
        if unknown := parameters.keys() - _LIST_PARAMETERS:
            raise _RefusalError(400, "BadRequest", f"unknown parameters {sorted(unknown)}")
        if name:
            found = api.objects.get(kind, namespace, name)
            if found is None:
                raise _RefusalError(404, "NotFound", f'{kind.plural} "{name}" not found')
            return found
        try:
            selector = parse_selector(kind, parameters.get("fieldSelector", ""), parameters.get("labelSelector", ""))
        except SelectorError as error:
            raise _RefusalError(400, "BadRequest", str(error)) from None
        if parameters.get("watch", "false") in ("1", "true"):
            return self._watch(kind, namespace, selector, parameters)
        return self._list(kind, namespace, selector, parameters)

    def _find(self, path: str) -> tuple[Kind, str, str]:
        """(kind, namespace, name) of a path; the last two may be empty."""
        parts = path.strip("/").split("/")
        if parts[0] == "api" and len(parts) > 2:
            group_version, rest = parts[1], parts[2:]
        elif parts[0] == "apis" and len(parts) > 3:
            group_version, rest = "/".join(parts[1:3]), parts[3:]
        else:
            raise _RefusalError(404, "NotFound", "the server could not find the requested resource")
        namespace = ""
        if rest[0] == "namespaces" and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        kind = self.server.api.objects.find_kind(group_version, rest[0])
        if kind is None or len(rest) > 2:
            raise _RefusalError(404, "NotFound", "the server could not find the requested resource")
        if kind.plural in self.server.api.forbidden:
            raise _RefusalError(403, "Forbidden", f'{kind.plural} is forbidden: cannot list resource "{kind.plural}"')
        return kind, namespace, rest[1] if len(rest) > 1 else ""

    def _list(self, kind: Kind, namespace: str, selector: Selector, parameters: dict[str, str]) -> Object:
        objects = self.server.api.objects
        if token := parameters.get("continue"):
            revision, start = json.loads(base64.urlsafe_b64decode(token))
            try:
                objects.check_revision(revision)
            except ExpiredError:
                raise _RefusalError(410, "Expired", "The provided continue parameter is too old") from None
            # A list is of one revision, whatever was written between its parts.
            items = [item for item in self.server.api._lists[revision, kind, namespace, selector] if _key(item) > start]
        else:
            items, revision = objects.select(kind, namespace, selector)
        limit = int(parameters.get("limit", "0"))
        metadata: Object = {"resourceVersion": str(revision)}
        if limit and len(items) > limit:
            self.server.api._lists[revision, kind, namespace, selector] = items
            metadata["remainingItemCount"] = len(items) - limit
            items = items[:limit]
            mark = json.dumps([revision, _key(items[-1])]).encode()
            metadata["continue"] = base64.urlsafe_b64encode(mark).decode()
        return {
            "kind": f"{kind.kind}List",
            "apiVersion": kind.group_version,
            "metadata": metadata,
            # The items of a list carry neither kind nor apiVersion.
            "items": [{key: item[key] for key in item if key not in ("kind", "apiVersion")} for item in items],
        }

    def _watch(self, kind: Kind, namespace: str, selector: Selector, parameters: dict[str, str]) -> Iterator[Object]:
        """The events of the stream."""
        api = self.server.api
        version = parameters.get("resourceVersion", "")
        if version and not version.isdigit():
            raise _RefusalError(400, "BadRequest", f"invalid resource version {version!r}")
        if "limit" in parameters or "continue" in parameters:
            raise _RefusalError(400, "BadRequest", "limit and continue are not for a watch")
        try:
            if version not in ("", "0"):
                api.objects.check_revision(int(version))
        except ExpiredError as error:
            refusal = _RefusalError(410, "Expired", str(error))
            if api.is_410_a_status:
                raise refusal from None
            return iter(({"type": "ERROR", "object": _tell_status(refusal)},))
        seconds = float(parameters.get("timeoutSeconds", _WATCH_SECONDS))
        allows_bookmarks = parameters.get("allowWatchBookmarks") in ("1", "true")
        items: list[Object] = []
        if version in ("", "0"):
            items, revision = api.objects.select(kind, namespace, selector)
        else:
            revision = int(version)
        # What the test asks for from now on is for this watch too.
        events = self._follow(
            kind, namespace, selector, revision, seconds, allows_bookmarks, api._epoch, api._bookmarks
        )
        return itertools.chain(({"type": "ADDED", "object": item} for item in items), events)

    def _follow(
        self,
        kind: Kind,
        namespace: str,
        selector: Selector,
        revision: int,
        seconds: float,
        allows_bookmarks: bool,
        epoch: int,
        bookmarks: int,
    ) -> Iterator[Object]:
        api, objects = self.server.api, self.server.api.objects
        end = time.monotonic() + seconds
        next_bookmark = time.monotonic() + api.bookmark_seconds
        while api._epoch == epoch and time.monotonic() < end:
            is_bookmark_due = bool(api.bookmark_seconds) and time.monotonic() >= next_bookmark
            with objects.changed:
                changes = objects.changes(revision)
                if not changes and api._epoch == epoch and api._bookmarks == bookmarks and not is_bookmark_due:
                    rests = [end - time.monotonic()]
                    if api.bookmark_seconds:
                        rests.append(next_bookmark - time.monotonic())
                    objects.changed.wait(max(0.0, min(rests)))
                    continue
                # All up to here is told, whatever of it the selector let through.
                revision, asked = objects.revision, api._bookmarks
            yield from tell_changes(changes, kind, namespace, selector)
            if asked != bookmarks or is_bookmark_due:
                bookmarks, next_bookmark = asked, time.monotonic() + api.bookmark_seconds
                if allows_bookmarks:
                    metadata = {"resourceVersion": str(revision), "creationTimestamp": None}
                    mark = {"kind": kind.kind, "apiVersion": kind.group_version, "metadata": metadata}
                    yield {"type": "BOOKMARK", "object": mark}

    def _write(self, body: bytes, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if status in (429, 503):
            self.send_header("Retry-After", "1")
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, events: Iterator[Object]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        for event in events:
            line = json.dumps(event, ensure_ascii=False).encode() + b"\n"  # As Go writes it.
            self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")


def _key(item: Object) -> str:
    """The order of a list."""
    return f"{item['metadata'].get('namespace', '')}\0{item['metadata']['name']}"


def _tell_status(refusal: _RefusalError) -> Object:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "reason": refusal.reason,
        "message": refusal.message,
        "code": refusal.status,
    }
