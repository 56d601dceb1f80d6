"""Receivers on loopback that take what the real ones document, refuse the rest, and answer alike."""

import json
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

SCHEMAS = Path(__file__).parents[2] / "data" / "notifiers"
TEAMS_BYTES_MAX = 28_000
# Status and body where a body is taken.
ANSWERS = {
    "slack": (200, b"ok"),
    "teams": (202, b""),
    "pagerduty": (202, b'{"status":"success","message":"Event processed","dedup_key":"k"}'),
    "otlp": (200, b'{"partialSuccess":{}}'),
    "ocsf": (200, b""),
    "jira": (201, b'{"id":"10000","key":"SEC-24","self":"https://jira.example/rest/api/2/issue/10000"}'),
    "ticket": (201, b""),
    "template": (200, b""),
}


class Receiver:
    """What came: bodies that were taken, headers of all, and why others were refused."""

    def __init__(self, kind: str) -> None:
        self.status, self.answer = ANSWERS[kind]
        schema = SCHEMAS / f"{kind}.json"
        self.validator = Draft202012Validator(json.loads(schema.read_text())) if schema.exists() else None
        self.taken: list[Any] = []
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.refused: list[str] = []
        self.url = ""

    def judge(self, content: bytes, content_type: str) -> str:
        """Why a body is refused; empty where it is not."""
        if content_type != "application/json":
            return f"content type {content_type}"
        try:
            body = json.loads(content)
        except ValueError as error:
            return str(error)
        if self.validator is not None:
            return "; ".join(f"{error.json_path}: {error.message}" for error in self.validator.iter_errors(body))
        return ""


@contextmanager
def receive(kind: str, path: str = "/services/T0/B0/secret") -> Iterator[Receiver]:
    """A receiver of a kind at `url`."""
    receiver = Receiver(kind)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["content-length"]))
            receiver.paths.append(self.path)
            receiver.headers.append({name.lower(): value for name, value in self.headers.items()})
            why = receiver.judge(content, self.headers.get("content-type", ""))
            if not why and kind == "teams" and len(content) > TEAMS_BYTES_MAX:
                why = f"{len(content)} bytes"
            receiver.refused += [why] if why else []
            if not why:
                receiver.taken.append(json.loads(content))
            self.send_response(400 if why else receiver.status)
            answer = why.encode() if why else receiver.answer
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.url = f"http://127.0.0.1:{server.server_port}{path}"
        with _serving(server):
            yield receiver


@contextmanager
def _serving(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()


class MailServer:
    """What a mail server heard."""

    def __init__(self) -> None:
        self.port = 0
        self.messages: list[bytes] = []
        self.envelopes: list[list[str]] = []
        self.logins: list[str] = []
        self.secured = 0
        self.refusal = ""  # Said to each recipient in place of 250.


@contextmanager
def receive_mail(context: ssl.SSLContext | None = None, *, is_tls: bool = False) -> Iterator[MailServer]:
    """A server of RFC 5321 as far as a client needs it; with a context it offers STARTTLS."""
    heard = MailServer()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.link = self.request
            try:
                self._talk()
            except (OSError, ValueError):  # The client left.
                pass
            finally:
                self.link.close()

        def _talk(self) -> None:
            link = self.link
            if is_tls and context is not None:
                link = self.link = context.wrap_socket(link, server_side=True)
            file, is_secure, envelope = link.makefile("rb"), is_tls, list[str]()

            def say(text: str) -> None:
                link.sendall(text.encode() + b"\r\n")

            say("220 mail.test")
            while line := file.readline():
                verb, _, rest = line.decode().strip().partition(" ")
                match verb.upper():
                    case "EHLO":
                        offered = "STARTTLS" if context is not None and not is_secure else "AUTH PLAIN"
                        say(f"250-mail.test\r\n250-8BITMIME\r\n250 {offered}")
                    case "STARTTLS":
                        assert context is not None
                        say("220 go")
                        link = self.link = context.wrap_socket(link, server_side=True)
                        file, is_secure = link.makefile("rb"), True
                        heard.secured += 1
                    case "AUTH":
                        heard.logins.append(rest)
                        say("235 ok")
                    case "MAIL":
                        envelope.append(rest)
                        say("250 ok")
                    case "RCPT":
                        envelope.append(rest)
                        say(heard.refusal or "250 ok")
                    case "DATA":
                        say("354 go")
                        content = b""
                        while (part := file.readline()) != b".\r\n":
                            content += part
                        heard.messages.append(content)
                        heard.envelopes.append(list(envelope))
                        say("250 taken")
                    case "QUIT":
                        say("221 bye")
                        return
                    case _:
                        say("250 ok")

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        heard.port = server.server_address[1]
        with _serving(server):
            yield heard
