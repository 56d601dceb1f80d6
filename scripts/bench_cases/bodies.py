"""What reading a sampled body costs, without a kernel: raw bytes to facts, by coding and size.

    scripts/bench bodies [--rounds 5] [--without-schemas]

Lists of records of an invented shop: names, e-mails, phones, addresses, numbers, dates. Process time a body, the best
of the rounds; `ns_a_byte` is of the bytes on the wire, which the budget (`body_bytes_per_second`) counts.
"""

import argparse
import json
import random
import time

from sensor.bodies.reader import BodyCall, BodyReader
from sensor.bodies.sampling import SampleRule
from sensor.calls import RawBodies
from sensor.schemas.book import SchemaBook
from sensor.vocabulary import load_vocabulary
from tests.sensor.bodies.messages import ENCODERS, chunk, response_head

REQUEST = b"GET /orders HTTP/1.1\r\nHost: shop\r\n\r\n"
ALL = SampleRule(first_count=1 << 30)
LIMIT_BYTES = 65_536


def make_body(records: int) -> bytes:
    """A list; no two records are equal."""
    source = random.Random(records)
    names = ("Ada Lovelace", "Alan Turing", "Grace Hopper", "Edsger Dijkstra")
    return json.dumps(
        [
            {
                "id": i,
                "customer": {"name": source.choice(names), "email": f"u{source.randrange(10**6)}@example.org"},
                "phone": f"+1 415 555 {source.randrange(1000, 9999)}",
                "address": {"street": f"{source.randrange(999)} Main Street", "city": "Springfield"},
                "total": source.randrange(10**4) / 100,
                "created_at": "2026-11-24T17:00:00Z",
                "note": "left at the door",
            }
            for i in range(records)
        ]
    ).encode()


def measure(raw: bytes, head: bytes, rounds: int, *, has_schemas: bool) -> tuple[float, int]:
    """(Microseconds a body, records told)."""
    reader = BodyReader(ALL, SchemaBook(load_vocabulary(), ALL) if has_schemas else None)
    call = BodyCall(1, 200, REQUEST, head, len(REQUEST), len(head) + len(raw), 1, RawBodies(b"", raw[:LIMIT_BYTES]))
    count = max(3, 300_000 // max(len(raw), 3_000))
    best, records = float("inf"), 0
    for _ in range(rounds):
        began = time.process_time_ns()
        for _ in range(count):
            facts = reader.read(call)
        best = min(best, (time.process_time_ns() - began) / count / 1_000)
        records = facts.records if facts is not None else -1
    return best, records


def main() -> None:
    """Prints a line a scenario."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--without-schemas", action="store_true", help="Classify only, do not describe.")
    arguments = parser.parse_args()
    rounds = arguments.rounds
    for records in (1, 10, 40, 100, 1_000):
        body = make_body(records)
        for coding in ("", "gzip", "br", "zstd", "chunked"):
            raw = chunk(body) if coding == "chunked" else ENCODERS[coding](body) if coding else body
            head = response_head(
                coding="" if coding == "chunked" else coding, length=None if coding == "chunked" else len(raw)
            )
            microseconds, told = measure(raw, head, rounds, has_schemas=not arguments.without_schemas)
            wire_bytes = min(len(raw), LIMIT_BYTES)
            line = {
                "scenario": f"{records} records, {coding or 'plain'}",
                "wire_bytes": wire_bytes,
                "us_a_body": round(microseconds, 1),
                "ns_a_byte": round(microseconds * 1_000 / wire_bytes, 1),
                "records": told,
            }
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
