"""A fake of the Kubernetes API for TokenReviews and single Pods, over HTTPS on loopback; strict as far as it goes."""

import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from collector.trust.authority import issue_server_certificate, make_authority

OWN_TOKEN = "collectors-own-token"


@dataclass(slots=True, kw_only=True)
class FakeReviews:
    """`tokens`: the status of each token's review, for the audience it was made for."""

    account_dir: Path
    port: int = 0
    tokens: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    pods: dict[str, dict[str, Any]] = field(default_factory=dict)
    status: int = 200  # Of the next answers.
    knows_audiences: bool = True
    asked: list[str] = field(default_factory=list)

    def add(self, token: str, *, account: str = "apidae/sensor", audience: str = "apidae", **extra: str) -> None:
        namespace, name = account.split("/")
        user = {
            "username": f"system:serviceaccount:{namespace}:{name}",
            "groups": ["system:serviceaccounts", "system:authenticated"],
            "extra": {f"authentication.kubernetes.io/{key.replace('_', '-')}": [text] for key, text in extra.items()},
        }
        self.tokens[token] = (audience, user)

    def review(self, spec: dict[str, Any]) -> dict[str, Any]:
        audience, user = self.tokens.get(spec["token"], ("", {}))
        if not user or (self.knows_audiences and audience not in spec["audiences"]):
            return {"authenticated": False, "error": "token is not valid"}
        return {"authenticated": True, "user": user, **({"audiences": [audience]} if self.knows_audiences else {})}


@contextmanager
def serve_reviews(directory: Path) -> Iterator[FakeReviews]:
    """Listening until the end of `with`; `account_dir` is as in a Pod."""
    authority = make_authority(time.time())
    pair = issue_server_certificate(authority, ["127.0.0.1"], now=time.time(), seconds=86_400)
    file = directory / "api.pem"
    file.write_bytes(pair.key + pair.chain)
    (directory / "ca.crt").write_bytes(authority.bundle)
    (directory / "token").write_text(OWN_TOKEN + "\n")
    (directory / "namespace").write_text("apidae")
    reviews = FakeReviews(account_dir=directory)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *arguments: Any) -> None:
            """Quiet."""

        def answer(self, status: int, content: dict[str, Any]) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def prepare(self) -> bool:
            reviews.asked.append(f"{self.command} {self.path}")
            if self.headers["authorization"] != f"Bearer {OWN_TOKEN}":
                self.answer(401, {"kind": "Status", "code": 401})
            elif reviews.status != 200:
                self.answer(reviews.status, {"kind": "Status", "code": reviews.status})
            else:
                return True
            return False

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if not self.prepare():
                return
            assert self.path == "/apis/authentication.k8s.io/v1/tokenreviews"
            assert (request["kind"], request["apiVersion"]) == ("TokenReview", "authentication.k8s.io/v1")
            assert set(request["spec"]) == {"token", "audiences"}
            self.answer(201, {**request, "status": reviews.review(request["spec"])})

        def do_GET(self) -> None:
            if not self.prepare():
                return
            pod = reviews.pods.get(self.path)
            self.answer(200 if pod else 404, pod or {"kind": "Status", "code": 404})

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    reviews.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield reviews
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
