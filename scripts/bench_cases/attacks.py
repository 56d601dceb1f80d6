"""What checking a request against the attack rules costs, without a kernel: a head in, the payload out.

    scripts/bench attacks [--rounds 5] [--requests 2000]

`plain` has nothing that a payload is made of; `text` has a query of a given length that people would type; `prose` one
that speaks of SQL, which matches rules and is no attack; `payload` one of SQL. No two texts are equal. Process time a
request, the best of the rounds.
"""

import argparse
import json
import time
from collections.abc import Sequence

from sensor.core.health import AttackAccount
from sensor.core.keyed import KeyedHash
from sensor.describe.attacks.open import open_attacks
from sensor.describe.attacks.reader import Answer, AttackedRequest, AttackReader

_HEAD = b"GET / HTTP/1.1\r\nHost: shop\r\nUser-Agent: curl/8.14.1\r\nAccept: */*\r\n\r\n"
_ANSWER = Answer(route_id=1, status_code=200, response_bytes=400, duration_ns=1_000_000, is_final=True)
_WORDS = "the%20left%20door%2C%20please!%20"
_PROSE = "you%20can%20select%20the%20rows%20from%20this%20table%20and%20sort%20them%2C%20then%20"


def make_request(path: str, query: str) -> AttackedRequest:
    """A GET with ordinary headers."""
    return AttackedRequest(
        consumer=1,
        method="GET",
        path=path,
        query=query,
        head=_HEAD,
        headers=(),
        content_type="",
        time_ns=0,
        answer=_ANSWER,
    )


def make_requests(case: str, length: int, count: int) -> list[AttackedRequest]:
    """As many different ones; `length` is the query's, in characters."""
    if case == "plain":
        return [make_request(f"/api/v1/orders/{i}", "") for i in range(count)]
    if case == "payload":
        return [make_request("/api/v1/orders", f"id={i}'%20OR%201=1--%20") for i in range(count)]
    words = _PROSE if case == "prose" else _WORDS
    text = (words * (length // len(words) + 1))[: length - 9]
    return [make_request("/api/v1/orders", f"q={i:06}%20{text}") for i in range(count)]


def measure(reader: AttackReader, requests: Sequence[AttackedRequest], rounds: int) -> tuple[float, int]:
    """(Microseconds a request, payloads found in all)."""
    best, found = float("inf"), 0
    for _ in range(rounds):
        began = time.process_time_ns()
        found = sum(reader.read(request) > 0 for request in requests)
        best = min(best, (time.process_time_ns() - began) / len(requests) / 1_000)
    return best, found


def main() -> None:
    """One JSON line a case."""
    parser = argparse.ArgumentParser(prog="scripts/bench attacks", description="What the attack rules cost.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=2_000)
    arguments = parser.parse_args()
    reader = open_attacks(KeyedHash(1, bytes(16)), bytes_per_second=1 << 60, account=AttackAccount())
    assert reader is not None
    cases = (("plain", 0), ("text", 50), ("text", 200), ("text", 1_000), ("prose", 200), ("payload", 0))
    for case, length in cases:
        requests = make_requests(case, length, arguments.requests)
        microseconds, found = measure(reader, requests, arguments.rounds)
        line = {"scenario": case, "query_characters": len(requests[0].query), "us_a_request": round(microseconds, 1)}
        print(json.dumps({**line, "payloads": found, "requests": len(requests)}), flush=True)


if __name__ == "__main__":
    main()
