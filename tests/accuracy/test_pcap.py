"""`apidae replay --raw` on captures with known results, where APIDAE_EVAL_DIR names them; skipped, saying so, else."""

import json
import os
from pathlib import Path

import pytest

from sensor.capture.files.capture_file import CaptureFile
from sensor.cli.replay import Replay
from tests.accuracy.pcap import Score, compare_suricata, compare_zeek
from tests.sensor.capture.files.packets import Talk, write_pcap

EVALUATION = os.environ.get("APIDAE_EVAL_DIR")
needs_data = pytest.mark.skipif(EVALUATION is None, reason="APIDAE_EVAL_DIR names no evaluation data")


def tell(score: Score) -> None:
    print(f"{score.right} of {score.total} fields: {score.ratio:.4f}")
    for wrong in score.wrong:
        print(*wrong)


@needs_data
def test_zeek() -> None:
    score = compare_zeek(Path(str(EVALUATION)) / "protocol" / "zeek")
    tell(score)
    assert score.total > 1_000
    assert score.ratio >= 0.98


@needs_data
def test_suricata() -> None:
    score = compare_suricata(Path(str(EVALUATION)) / "protocol" / "suricata")
    tell(score)
    assert score.total > 100
    assert score.ratio >= 0.98


@needs_data
@pytest.mark.parametrize("is_raw", [False, True])
def test_every_name_is_documented(is_raw: bool) -> None:
    text = (Path(__file__).parents[2] / "docs" / "use" / "replay.md").read_text()
    names = set[str]()
    for path in sorted((Path(str(EVALUATION)) / "protocol").rglob("*.pcap*")):
        capture = CaptureFile(path)
        names |= {name for line in Replay(is_raw=is_raw).run(capture) for name in line}
        capture.close()
    assert len(names) > 30
    lists = ("http.request.header.", "http.response.header.", "network.")
    named = {name for name in names if not name.startswith(lists)}
    # A row may name a sibling by its last part.
    assert not [name for name in named if f"`{name}`" not in text and f"`.{name.rpartition('.')[2]}`" not in text]


def test_fields_that_differ_are_counted(tmp_path: Path) -> None:
    """The comparison can fail."""
    (tmp_path / "traces").mkdir()
    talk = Talk().open().ask(b"GET /a%20b HTTP/1.1\r\nHost: h\r\n\r\n").answer(b"HTTP/1.1 204 No\r\n\r\n").close()
    write_pcap(tmp_path / "traces" / "x.pcap", talk.packets)
    record = {"method": "GET", "uri": "/a b", "status_code": "204", "status_msg": "Yes", "version": "1.1"}
    missing = {"method": "PUT", "host": "elsewhere"}
    case = {"test": "t", "trace": "x.pcap", "http": [record, missing]}
    (tmp_path / "cases.jsonl").write_text(json.dumps(case) + "\n")
    score = compare_zeek(tmp_path)
    assert (score.right, score.total) == (4, 7)
    assert [(name, expected, told) for _, name, expected, told in score.wrong] == [
        ("status_msg", "Yes", "No"),
        ("method", "PUT", None),
        ("host", "elsewhere", None),
    ]
