"""Calls of one service with their bodies in, through sensor, wire and detectors, and who was named out."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from collector.core.kinds import PLANS, Sensitivity
from sensor.core.calls import Exchange, RawBodies, Role
from tests.accuracy.abuse import AlertCollector
from tests.accuracy.node import Node
from tests.sensor.records import make_exchange

START = 1_760_000_400
SECONDS = 3 * 3_600
ATTACKS_FROM = 2 * 3_600 + 600
ADDRESS = "10.20.0.5"  # Of the service.
_SERVICE = 11  # Its cgroup.


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call to the service, or, where `reached` is an address, of it."""

    second: float
    actor: str
    address: str
    method: str
    target: str
    body: str = ""
    answer: str = "{}"
    media_type: str = "application/json"
    status: int = 200
    host: str = "api.example"
    reached: str = ""
    port: int = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """`missed`: attackers without an alert. `accused`: honest callers and of what."""

    attacks: int
    missed: list[str]
    honest: int
    accused: list[str]


@dataclass
class Scene:
    """What a service adds to."""

    seed: int
    calls: list[Call] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)

    def draw_address(self) -> str:
        """Outside."""
        return f"{self.random.randrange(60, 99)}.{'.'.join(str(self.random.randrange(1, 250)) for _ in range(3))}"

    def draw_second(self, actor: str) -> float:
        """Attackers come in the third hour."""
        is_attack = actor.startswith("attack")
        return self.random.uniform(ATTACKS_FROM if is_attack else 0, SECONDS - 60)

    def call(self, actor: str, address: str, second: float, method: str, target: str, **more: object) -> None:
        """Add a call of a caller, who has a token of its own."""
        self.calls.append(
            Call(second=second, actor=actor, address=address, method=method, target=target, **more)  # type: ignore[arg-type]
        )

    def reach(self, second: float, host: str, address: str, port: int = 80, method: str = "GET") -> None:
        """Add a call that the service makes."""
        self.calls.append(
            Call(second=second, actor="", address="", method=method, target="/x", host=host, reached=address, port=port)
        )


def play(scene: Scene) -> Score:
    """All calls in order of their ends, and the alerts that name somebody."""
    node, collector = Node("api", reads_bodies=True), AlertCollector(PLANS[Sensitivity.PARANOID].alerts_a_day)
    actors: dict[str, str] = {}
    named: dict[str, str] = {}
    polled = 0
    for number, call in enumerate(sorted(scene.calls, key=lambda one: one.second)):
        consumer = node.see_whole(_make_exchange(call, number))
        if call.actor:
            actors[consumer] = call.actor
        if int(call.second) > polled:
            polled = int(call.second)
            named |= dict(_take(node, collector, polled))
    named |= dict(_take(node, collector, SECONDS + 60))
    attackers = {actor for actor in actors.values() if actor.startswith("attack")}
    found = {actors.get(consumer, consumer): kind for consumer, kind in named.items()}
    return Score(
        attacks=len(attackers),
        missed=sorted(attackers - found.keys()),
        honest=len(set(actors.values()) - attackers),
        accused=sorted(f"{actor} {kind}" for actor, kind in found.items() if actor not in attackers),
    )


def _take(node: Node, collector: AlertCollector, second: int) -> Iterator[tuple[str, str]]:
    for batch in node.poll((START + second) * 10**9):
        for opened in collector.take(batch, START + second):
            yield opened.consumer, opened.kind


def _make_exchange(call: Call, number: int) -> Exchange:
    lines = [f"{call.method} {call.target} HTTP/1.1", f"Host: {call.host}"]
    if call.actor:
        lines.append(f"Authorization: Bearer {call.actor.ljust(24, 'x')}")
    body, answer = call.body.encode(), call.answer.encode()
    if body:
        lines += [f"Content-Type: {call.media_type}", f"Content-Length: {len(body)}"]
    head = "\r\n".join([*lines, "", ""]).encode()
    answer_head = (
        f"HTTP/1.1 {call.status} X\r\nContent-Type: application/json\r\nContent-Length: {len(answer)}\r\n\r\n".encode()
    )
    is_own = bool(call.reached)
    return make_exchange(
        time_unix_ns=int((START + call.second) * 10**9), connection=number + 1, cgroup_id=_SERVICE,
        role=Role.CLIENT if is_own else Role.SERVER, local_address=ADDRESS, local_port=40_000 if is_own else 8_080,
        remote_address=call.reached or call.address, remote_port=call.port if is_own else 50_000 + number % 10_000,
        request_head=head, response_head=answer_head, status_code=call.status, request_bytes=len(head) + len(body),
        response_bytes=len(answer_head) + len(answer), time_to_first_byte_ns=10**6, duration_ns=2 * 10**6,
        bodies=RawBodies(body, answer),
    )  # fmt: skip


def to_json(document: object) -> str:
    """As clients write it."""
    return json.dumps(document)
