"""Task `attacks`: requests, parameter values or query strings in, whether and what they attack out.

The classifier runs on the sensor, on what a request says; the core rules are used where their package is installed.
Categories are the classifier's own words.
"""

import json
from pathlib import Path
from typing import Any

from sensor.core.keyed import KeyedHash
from sensor.describe.attacks.classes import Attack, Request
from sensor.describe.attacks.classifier import AttackClassifier, read_value
from sensor.describe.attacks.core_rules import load_core_rules


def run(source: Path, target: Path) -> None:
    """Reads JSONL with `req` `{method, uri, headers, body}`, `v` (a value) or `q` (a query string); writes JSONL
    `{"attack", "cat"}`."""
    classifier = AttackClassifier(KeyedHash(1, bytes(16)).compute, load_core_rules())
    with source.open(encoding="utf-8", newline="\n") as lines, target.open("w", encoding="utf-8", newline="\n") as out:
        for text in lines:
            if text.strip():
                found = _judge(classifier, json.loads(text))
                out.write(json.dumps({"attack": found is not None, "cat": found.attack_class.value if found else None}))
                out.write("\n")


def _judge(classifier: AttackClassifier, line: dict[str, Any]) -> Attack | None:
    if "v" in line:
        values = (classifier.classify_value(value) for value in read_value(line["v"]))
        return next((found for found in values if found is not None), None)
    if "q" in line:
        return classifier.classify(Request(query=line["q"]))
    request = line["req"]
    path, _, query = (request.get("uri") or "").partition("?")
    headers = tuple((name.lower(), str(value)) for name, value in (request.get("headers") or {}).items())
    return classifier.classify(
        Request(
            path=path,
            query=query,
            method=request.get("method") or "",
            headers=headers,
            body=request.get("body") or "",
            content_type=next((value for name, value in headers if name == "content-type"), ""),
        )
    )
