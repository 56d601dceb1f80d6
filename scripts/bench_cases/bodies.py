"""What reading a sampled body costs, without a kernel: raw bytes to facts, by coding and size.

    scripts/bench bodies [--rounds 5] [--without-schemas]

Lists of records of an invented shop: names, e-mails, phones, addresses, numbers, dates; and `wide`, one document of
11 KB with hundreds of fields, all of which are asked; and one of the lists as XML. Process time a body, the best of the
rounds; `ns_a_byte` is of the bytes on the wire, which the budget (`body_bytes_per_second`) counts. `references`: the
same as a multiple of a fixed loop that is timed between the rounds, the median, which says the same on a busy machine.
"""

import argparse
import json
import random
import statistics
import time
from typing import NamedTuple

from sensor.core.calls import RawBodies
from sensor.describe.bodies.reader import BodyCall, BodyReader
from sensor.describe.bodies.sampling import SampleRule
from sensor.describe.schemas.book import SchemaBook
from sensor.routes.vocabulary import load_vocabulary
from tests.sensor.describe.bodies.messages import ENCODERS, chunk, response_head

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


def make_wide_body() -> bytes:
    """One document of 11 KB, no list of records: 44 sections of six fields, one in three with an address of mail."""
    source = random.Random(1)

    def section(i: int) -> dict[str, object]:
        return {
            "id": f"{source.getrandbits(128):032x}",
            "display_label": f"Section {i} of the report",
            "updated_at": "2026-11-24T17:00:00Z",
            "href": f"https://api.example.org/v2/reports/{source.randrange(10**6)}/sections/{i}",
            "weight": source.randrange(10**4) / 100,
            "contact": f"u{source.randrange(10**6)}@example.org" if i % 3 == 0 else "nobody in particular",
        }

    return json.dumps({f"section_{i}": section(i) for i in range(44)}).encode()


def write_xml(body: bytes) -> bytes:
    """The same list as elements."""

    def write(name: str, value: object) -> str:
        if isinstance(value, dict):
            return f"<{name}>{''.join(write(*one) for one in value.items())}</{name}>"
        return f"<{name}>{value}</{name}>"

    return f"<orders>{''.join(write('order', record) for record in json.loads(body))}</orders>".encode()


def burn() -> None:
    """The reference: 20,000 numbers as text."""
    total = 0
    for number in range(20_000):
        total += len(str(number))


class Cost(NamedTuple):
    """What a body costs, and how many records were told."""

    microseconds: float
    references: float
    records: int


def measure(raw: bytes, head: bytes, rounds: int, *, has_schemas: bool) -> Cost:
    """Of one body, again and again."""
    reader = BodyReader(ALL, SchemaBook(load_vocabulary(), ALL) if has_schemas else None)
    call = BodyCall(1, 200, REQUEST, head, len(REQUEST), len(head) + len(raw), 1, RawBodies(b"", raw[:LIMIT_BYTES]))
    count = max(3, 300_000 // max(len(raw), 3_000))
    costs: list[float] = []
    ratios: list[float] = []
    records = 0
    for _ in range(rounds):
        began = time.process_time_ns()
        burn()
        between = time.process_time_ns()
        for _ in range(count):
            facts = reader.read(call)
        ended = time.process_time_ns()
        burn()
        reference = (between - began + time.process_time_ns() - ended) / 2
        costs.append((ended - between) / count / 1_000)
        ratios.append((ended - between) / count / reference)
        records = facts.records if facts is not None else -1
    return Cost(min(costs), statistics.median(ratios), records)


def main() -> None:
    """Prints a line a scenario."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--without-schemas", action="store_true", help="Classify only, do not describe.")
    arguments = parser.parse_args()
    bodies = [("wide", make_wide_body())] + [
        (f"{count} records", make_body(count)) for count in (1, 10, 40, 100, 1_000)
    ]
    bodies.append(("40 records as XML", write_xml(make_body(40))))
    for name, body in bodies:
        for coding in ("", "gzip", "br", "zstd", "chunked") if "records" in name[-7:] else ("",):
            raw = chunk(body) if coding == "chunked" else ENCODERS[coding](body) if coding else body
            head = response_head(
                coding="" if coding == "chunked" else coding, length=None if coding == "chunked" else len(raw)
            )
            if body.startswith(b"<"):
                head = head.replace(b"application/json", b"application/xml")
            cost = measure(raw, head, arguments.rounds, has_schemas=not arguments.without_schemas)
            wire_bytes = min(len(raw), LIMIT_BYTES)
            line = {
                "scenario": f"{name}, {coding or 'plain'}",
                "wire_bytes": wire_bytes,
                "us_a_body": round(cost.microseconds, 1),
                "references": round(cost.references, 3),
                "ns_a_byte": round(cost.microseconds * 1_000 / wire_bytes, 1),
                "records": cost.records,
            }
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
