"""Task `http1`: each input is one stream of requests or responses; is it accepted strictly, and which messages does it
hold?

A case is read as an endpoint would read it (`is_strict`), without its lenient variants. `accept` is whether the reader
took all bytes as HTTP/1, as llhttp's `execute` then returns HPE_OK; where it did not, `stopped` says why: a fault, or
`upgrade` where another protocol follows, which llhttp names HPE_PAUSED_UPGRADE and HPE_PAUSED_H2_UPGRADE. A message
that is not complete is no message.
`meta.type` says which side speaks; `meta.skipBody` says that the embedder knows that no body follows, as after HEAD. A
case without a type is a bare URL.
"""

import base64
import json
from pathlib import Path

from sensor.http.http1.grammar import Expect, Fault, is_target
from sensor.http.http1.stream import End, Event, Head, MessageReader, MessageState, Stopped


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
        is_taken = is_target(data)
        return {"accept": is_taken, "stopped": None if is_taken else Fault.TARGET, "messages": []}
    expect = Expect.NO_BODY if meta.get("skipBody") else Expect.NORMAL
    is_request = str(meta["type"]).startswith("request")
    reader = MessageReader(is_request=is_request, is_strict=True, expect=lambda start: expect)
    events: list[Event] = []
    reader.feed(data, events)
    is_upgrade = reader.state is MessageState.OPAQUE
    reader.finish(events, is_closed=False)
    messages, head = [], None
    for event in events:
        if isinstance(event, Head):
            head = event
        elif isinstance(event, End) and event.is_complete and head is not None:
            messages.append(_describe(head, event))
    fault = next((event.fault for event in events if isinstance(event, Stopped)), None)
    stopped = "upgrade" if is_upgrade or fault is Fault.HTTP2_PREFACE else fault
    return {"accept": stopped is None, "stopped": stopped, "messages": messages}


def run(source: Path, target: Path) -> None:
    """Reads JSONL of llhttp's cases, writes `{"accept", "stopped", "messages"}` for each line."""
    with source.open(encoding="utf-8", newline="\n") as file, target.open("w", encoding="utf-8") as output:
        for line in file:
            if line.strip():
                output.write(json.dumps(read_case(json.loads(line))) + "\n")
