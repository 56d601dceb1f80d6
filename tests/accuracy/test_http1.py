"""The strict reading of HTTP/1 on llhttp's own cases, where APIDAE_EVAL_DIR names them; skipped, saying so, else."""

import base64
import json
import os
from pathlib import Path

import pytest

from tests.accuracy.__main__ import main

EVALUATION = os.environ.get("APIDAE_EVAL_DIR")
# HPE_PAUSED_UPGRADE and HPE_PAUSED_H2_UPGRADE: no fault, but another protocol follows.
PAUSES = (22, 23)


@pytest.mark.skipif(EVALUATION is None, reason="APIDAE_EVAL_DIR names no evaluation data")
def test_llhttp_strict_cases(tmp_path: Path) -> None:
    source = Path(str(EVALUATION)) / "protocol" / "llhttp_cases.jsonl"
    assert main(["http1", str(source), str(tmp_path / "out")]) == 0
    cases = [json.loads(line) for line in source.read_text("utf-8").split("\n") if line]
    found = [json.loads(line) for line in (tmp_path / "out").read_text("utf-8").split("\n") if line]
    agreed = total = 0
    for case, verdict in zip(cases, found, strict=True):
        if "lenient" in (case["meta"] or {}).get("type", ""):
            continue
        total += 1
        is_paused = case["error"] is not None and case["error"]["code"] in PAUSES
        is_same = verdict["accept"] == (case["error"] is None) and (verdict["stopped"] == "upgrade") == is_paused
        agreed += is_same and len(verdict["messages"]) == case["n_complete"]
    assert total > 100
    assert agreed / total >= 0.97


def test_the_task_tells_messages(tmp_path: Path) -> None:
    stream = b"PUT /a HTTP/1.1\r\nX: y\r\nContent-Length: 2\r\n\r\nhiGET / HTTP/1.1\r\nX\r\n\r\n"
    lines = [
        {"input_b64": base64.b64encode(stream).decode(), "meta": {"type": "request"}},
        {"input_b64": base64.b64encode(b"/a b").decode(), "meta": None},
        {"input_b64": base64.b64encode(b"CONNECT a:1 HTTP/1.1\r\n\r\n").decode(), "meta": {"type": "request"}},
    ]
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["http1", str(source), str(target)]) == 0
    assert [json.loads(line) for line in target.read_text().splitlines()] == [
        {
            "accept": False,
            "stopped": "field_line",
            "messages": [
                {"method": "PUT", "url": "/a", "headers": [["X", "y"], ["Content-Length", "2"]], "body_len": 2}
            ],
        },
        {"accept": False, "stopped": "target", "messages": []},
        {
            "accept": False,
            "stopped": "upgrade",
            "messages": [{"method": "CONNECT", "url": "a:1", "headers": [], "body_len": 0}],
        },
    ]
