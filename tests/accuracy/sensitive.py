"""Task `sensitive`: JSON bodies in, the fields that hold sensitive data out.

The classifier runs on the sensor, before anything leaves the node: the line is what a sampled body becomes.
"""

import json
from pathlib import Path

from sensor.sensitive.document import find_sensitive


def run(source: Path, target: Path) -> None:
    """Reads JSONL `{"id", "op", "body"}`, writes `{"id", "found": [{"path", "type"}]}`."""
    with source.open(encoding="utf-8", newline="\n") as lines, target.open("w", encoding="utf-8", newline="\n") as out:
        for text in lines:
            if text.strip():
                line = json.loads(text)
                found = [{"path": one.path, "type": one.kind.value} for one in find_sensitive(line["body"])]
                out.write(json.dumps({"id": line["id"], "found": found}) + "\n")
