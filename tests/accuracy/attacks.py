"""Task `attacks`: requests, parameter values or query strings in, whether and what they attack out.

A request or query goes through the sensor's reader, with as much of its body as is copied, and no limit of bytes a
second. A value alone goes to the classifier. The core rules are used where their package is installed. Categories are
the classifier's own words.
"""

import json
from pathlib import Path
from typing import Any

from sensor.core.health import AttackAccount
from sensor.core.keyed import KeyedHash
from sensor.describe.attacks.classes import AttackClass
from sensor.describe.attacks.classifier import AttackClassifier, read_value
from sensor.describe.attacks.core_rules import load_core_rules
from sensor.describe.attacks.open import open_attacks
from sensor.describe.attacks.reader import Answer, AttackedRequest, AttackReader
from sensor.http.http1.head import read_media_type

_CLASSES = list(AttackClass)  # By the number of the class in a payload, from 1 on.
_ANSWER = Answer(route_id=1, status_code=200, response_bytes=400, duration_ns=1_000_000, is_final=True)


def run(source: Path, target: Path) -> None:
    """Reads JSONL with `req` `{method, uri, headers, body}`, `v` (a value) or `q` (a query string); writes JSONL
    `{"attack", "cat"}`."""
    keyed_hash = KeyedHash(1, bytes(16))
    classifier = AttackClassifier(keyed_hash.compute, load_core_rules())
    reader = open_attacks(keyed_hash, bytes_per_second=1 << 60, account=AttackAccount())
    assert reader is not None
    with source.open(encoding="utf-8", newline="\n") as lines, target.open("w", encoding="utf-8", newline="\n") as out:
        for text in lines:
            if text.strip():
                found = _find(reader, classifier, json.loads(text))
                out.write(json.dumps({"attack": found is not None, "cat": found.value if found else None}))
                out.write("\n")


def _find(reader: AttackReader, classifier: AttackClassifier, line: dict[str, Any]) -> AttackClass | None:
    if "v" in line:
        values = (classifier.classify_value(value) for value in read_value(line["v"]))
        return next((found.attack_class for found in values if found is not None), None)
    payload = reader.read(_make_request(line["req"] if "req" in line else {"method": "GET", "uri": "/?" + line["q"]}))
    return _CLASSES[(payload & 15) - 1] if payload else None


def _make_request(request: dict[str, Any]) -> AttackedRequest:
    path, _, query = (request.get("uri") or "").partition("?")
    headers = [(name, str(value)) for name, value in (request.get("headers") or {}).items()]
    body = (request.get("body") or "").encode("utf-8", "replace")
    head = "\r\n".join(["GET / HTTP/1.1", *(f"{name}: {value}" for name, value in headers), "", ""])
    media = next((value for name, value in headers if name.lower() == "content-type"), "")
    return AttackedRequest(
        consumer=1,
        method=request.get("method") or "",
        path=path,
        query=query,
        head=head.encode("utf-8", "replace"),
        headers=(),
        content_type=read_media_type(media.encode("utf-8", "replace")),
        time_ns=0,
        answer=_ANSWER,
        read_bodies=(lambda is_request: body if is_request else b"") if body else None,
    )
