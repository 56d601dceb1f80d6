"""Task `auth`: requests in, the authentication kinds that the collector's rows hold for each out."""

import json
from pathlib import Path

from sensor.core.calls import AuthenticationKind
from tests.accuracy.node import Node

# Bits that name no credential: what is weak about one, and what might be one.
NO_KINDS = (
    AuthenticationKind.JWT_UNSIGNED
    | AuthenticationKind.JWT_KNOWN_KEY
    | AuthenticationKind.JWT_NO_EXPIRY
    | AuthenticationKind.JWT_LONG_LIVED
    | AuthenticationKind.POSSIBLE_CREDENTIAL
)
LABELS = {kind: kind.name.lower() for kind in AuthenticationKind if kind and kind.name and not kind & NO_KINDS}


def _build_head(line: dict[str, object]) -> bytes:
    headers = line["headers"]
    assert isinstance(headers, list)
    fields = "".join(f"{name}: {str(value).replace(chr(10), chr(13) + chr(10) + ' ')}\r\n" for name, value in headers)
    return f"{line['method']} {line['path']} HTTP/1.1\r\n{fields}\r\n".encode()


def run(source: Path, target: Path) -> None:
    """Reads JSONL `{"id", "method", "path", "headers"}`, writes `{"id", "auth": [...]}` for each line."""
    with source.open(encoding="utf-8", newline="\n") as file, target.open("w", encoding="utf-8") as output:
        for text in file:
            if not text.strip():
                continue
            line = json.loads(text)
            node = Node("service")
            bits = 0
            for batch in (*node.see(_build_head(line), 200, 1), *node.flush()):
                for value in batch.authentication:
                    bits |= int(value)
            found = sorted(label for kind, label in LABELS.items() if bits & kind)
            output.write(json.dumps({"id": line["id"], "auth": found}) + "\n")
