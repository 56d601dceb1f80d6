"""Calls as a collector is told of them, by the sensor's own code: cases of `tests/data/risk/cases.jsonl` in, batches
out.

Everything between bytes and batch is the product's: describe, classify, aggregate, convert. The kernel adds nothing to
it; tests/e2e has the same of real sockets.
"""

import hmac
import json
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apidae.v1 import data_pb2

from sensor.aggregate.aggregator import Aggregator
from sensor.core.calls import CallRecord, Hop, RawBodies, Role, Service, WorkloadKind
from sensor.core.keyed import KeyedHash
from sensor.describe.bodies.reader import BodyReader
from sensor.describe.bodies.sampling import SampleRule
from sensor.describe.describer import Describer, DescribeSettings, Undescribed
from sensor.describe.schemas.book import SchemaBook
from sensor.export.convert import BatchConverter
from sensor.routes.templating import Templater
from sensor.routes.vocabulary import load_vocabulary
from sensor.sensitive.document import compile_classes
from tests.sensor.records import make_exchange

CASES = Path(__file__).parents[2] / "data" / "risk" / "cases.jsonl"
CALLS = 12
CLIENTS = 4
FIRST_PORT = 20_000
ALL = SampleRule(first_count=1 << 30)


def load_cases() -> list[dict[str, Any]]:
    """The list of flaws (with `expect`) and decoys (without)."""
    return [json.loads(line) for line in CASES.read_text().splitlines() if line.strip()]


def make_jwt(name: str, now: float) -> str:
    """A token by name: `good`, `strong`, `hour`, `year`, `no_expiry`, `none`, or the key it is signed with."""
    life = {"year": 365 * 86_400, "hour": 3_600}.get(name, 900)
    claims: dict[str, Any] = {"iss": "https://id.example", "sub": "ada", "iat": int(now), "exp": int(now) + life}
    if name == "no_expiry":
        del claims["exp"]
    header = {"alg": "none" if name == "none" else "HS256", "typ": "JWT"}
    signed = ".".join(_encode(json.dumps(part).encode()) for part in (header, claims))
    if name == "none":
        return f"{signed}."
    is_named = name in ("good", "strong", "hour", "year", "no_expiry")
    key = b"\x8f\x1a\x03\xd4" * 8 if is_named else name.encode()
    return f"{signed}.{_encode(hmac.digest(key, signed.encode(), 'sha256'))}"


def _encode(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


@dataclass(frozen=True, slots=True)
class _Services:
    """Each case is a service of its own, by its port."""

    names: dict[int, str]

    def server(self, cgroup_id: int, local_port: int, local_address: str) -> tuple[Service, Hop]:
        service = Service(
            cluster="c",
            namespace="",
            workload=self.names[local_port],
            workload_kind=WorkloadKind.SYSTEMD_UNIT,
            host_name="node-a",
            port=local_port,
        )
        return service, Hop.ENDPOINT

    def client_workload(
        self, peer_cgroup_id: int, remote_address: str, remote_port: int, server_cgroup_id: int = 0
    ) -> str:
        return ""

    def address_workload(self, address: str, first_ns: int, last_ns: int) -> str:
        return ""


class Sensor:
    """One sensor that sees every case's service. `time_ns` of its next call."""

    def __init__(self, names: Iterable[str], *, node: str = "node-a", classes: tuple[str, ...] = ()) -> None:
        self._ports = {name: FIRST_PORT + number for number, name in enumerate(names)}
        keyed_hash = KeyedHash(1, b"sixteen bytes!!!")
        self.templater = Templater(load_vocabulary(), keyed_hash)
        services = _Services({port: name for name, port in self._ports.items()})
        self.schemas = SchemaBook(load_vocabulary(), ALL)
        self.schemas.hash_by(keyed_hash)
        reader = BodyReader(ALL, self.schemas, compile_classes(classes))
        self._describer = Describer(
            self.templater, services, keyed_hash, DescribeSettings(), reader, schemas=self.schemas
        )
        self._aggregator = Aggregator()
        self._converter = BatchConverter(node=node, boot_id="00000000000000000000000000000001")
        self._calls = 0
        self.time_ns = (int(time.time()) - 120) * 10**9

    def see(self, case: dict[str, Any]) -> None:
        """All calls of one case."""
        for number in range(case.get("calls", CALLS)):
            self.see_call(case, number, status=case.get("status", 200))
        for number in range(case.get("also_ok", 0)):
            self.see_call({**case, "answer": {"ok": True}, "answer_type": "application/json"}, number, status=200)

    def see_call(self, case: dict[str, Any], number: int, *, status: int) -> CallRecord:
        """One call."""
        record = self.see_part(case, number, status=status)
        assert isinstance(record, CallRecord), record
        return record

    def see_part(self, case: dict[str, Any], number: int, *, status: int) -> CallRecord | Undescribed:
        """One call of which the node may have `head_cut` bytes of the request's head, `body_cut` of the bodies."""
        request_head, asked = _make_request(case, number, self.time_ns / 1e9)
        response_head, told = _make_response(case, status, self.time_ns / 1e9)
        asked, told = asked[: case.get("body_cut")], told[: case.get("body_cut")]
        client = case.get("client", "8.8.8.8")
        client = f"{client.rpartition('.')[0]}.{int(client.rpartition('.')[2]) + number % CLIENTS}"
        return self.see_bytes(
            case["id"], (request_head, asked), (response_head, told), client=client, status=status,
            head_cut=case.get("head_cut"),
        )  # fmt: skip

    def see_bytes(
        self,
        service: str,
        request: tuple[bytes, bytes],
        response: tuple[bytes, bytes],
        *,
        client: str,
        status: int,
        head_cut: int | None = None,
    ) -> CallRecord | Undescribed:
        """One call of a service by its bytes on the wire: head and body of request and response."""
        (request_head, asked), (response_head, told) = request, response
        exchange = make_exchange(
            time_unix_ns=self.time_ns,
            connection=self._calls + 1,
            call=0,
            role=Role.SERVER,
            cgroup_id=1,
            peer_cgroup_id=0,
            local_address="10.9.9.9",
            local_port=self._ports[service],
            remote_address=client,
            remote_port=40_000,
            request_head=request_head[:head_cut],
            is_request_head_truncated=head_cut is not None,
            response_head=response_head,
            status_code=status,
            request_bytes=len(request_head) + len(asked),
            response_bytes=len(response_head) + len(told),
            time_to_first_byte_ns=1_000_000,
            duration_ns=2_000_000,
            calls=1,
            is_final=True,
            is_aborted=False,
            is_lossy=False,
            bodies=RawBodies(asked, told),
        )
        record = self._describer.describe(exchange)
        self.time_ns += 1_000_000
        if isinstance(record, CallRecord):
            self._aggregator.add(record)
            self._calls += 1
        return record

    def flush(self) -> Iterator[data_pb2.Batch]:
        """What leaves the node."""
        rows = self._aggregator.flush()
        for batch in self._converter.convert(
            rows, key_id=1, policy_epoch=0, clock_segment=0, lost_calls_total=0, seen_calls_total=self._calls
        ):
            yield data_pb2.Batch.FromString(batch.payload)


def _make_request(case: dict[str, Any], number: int, now: float) -> tuple[bytes, bytes]:
    path = case["path"].replace("{n}", str(1_000 + number)).replace("{uuid}", str(uuid.uuid4()))
    headers = ["Host: api.example", *case.get("headers", ())]
    if case.get("https", True):
        headers.append("X-Forwarded-Proto: https")
    share = case.get("authenticated_share", 1.0 if "jwt" in case else 0.0)
    if number < share * CALLS:
        headers.append(f"Authorization: Bearer {make_jwt(case.get('jwt', 'good'), now)}")
    body = case.get("body", "")
    data = (body if isinstance(body, str) else json.dumps(body)).encode()
    if data:
        headers += [f"Content-Type: {case.get('body_type', 'application/json')}", f"Content-Length: {len(data)}"]
    lines = "".join(f"{line}\r\n" for line in headers)
    return f"{case.get('method', 'GET')} {path} HTTP/1.1\r\n{lines}\r\n".encode(), data


def _make_response(case: dict[str, Any], status: int, now: float) -> tuple[bytes, bytes]:
    answer = case.get("answer", "")
    if "answer_records" in case:
        answer = [{"n": number, "label": f"item {number}"} for number in range(case["answer_records"])]
    text = answer if isinstance(answer, str) else json.dumps(answer)
    data = text.replace("{jwt:good}", make_jwt("good", now)).encode()
    media_type = case.get("answer_type", "application/json")
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {media_type}\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode(), data
