"""Task `http1`: each input is one stream of requests or responses; is it accepted strictly, and which messages does it
hold?

A case is read as an endpoint would read it (`is_strict`), without its lenient variants. `accept` is false where the
reader stopped with a fault (a switch to another protocol is none); a message that is not complete is no message.
`meta.type` says which side speaks; `meta.skipBody` says that the embedder knows that no body follows, as after HEAD. A
case without a type is a bare URL.
"""

import base64
import json
from pathlib import Path

from sensor.http.http1.grammar import RULES, Expect, is_target
from sensor.http.http1.stream import End, Event, Head, MessageReader, Stopped


def _describe(head: Head, end: End) -> dict[str, object]:
    start = head.start
    told: dict[str, object] = (
        {"method": start.method.decode("latin-1"), "url": start.target.decode("latin-1")}
        if start.is_request
        else {"status": start.status_code}
    )
    told["headers"] = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in head.fields]
    told["body_len"] = end.body_bytes
    return told


def read_case(case: dict[str, object]) -> dict[str, object]:
    """The verdict on one case."""
    data = base64.b64decode(str(case["input_b64"]))
    meta = case.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    if "type" not in meta:
        return {"accept": is_target(data), "messages": []}
    expect = Expect.NO_BODY if meta.get("skipBody") else Expect.NORMAL
    is_request = str(meta["type"]).startswith("request")
    reader = MessageReader(is_request=is_request, is_strict=True, expect=lambda start: expect)
    events: list[Event] = []
    reader.feed(data, events)
    reader.finish(events, is_closed=False)
    messages, head = [], None
    for event in events:
        if isinstance(event, Head):
            head = event
        elif isinstance(event, End) and event.is_complete and head is not None:
            messages.append(_describe(head, event))
    is_refused = any(isinstance(event, Stopped) and RULES[event.fault].is_strict for event in events)
    return {"accept": not is_refused, "messages": messages}


def run(source: Path, target: Path) -> None:
    """Reads JSONL of llhttp's cases, writes `{"accept", "messages"}` for each line."""
    with source.open(encoding="utf-8", newline="\n") as file, target.open("w", encoding="utf-8") as output:
        for line in file:
            if line.strip():
                output.write(json.dumps(read_case(json.loads(line))) + "\n")
