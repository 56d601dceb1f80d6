"""Two collectors on one PostgreSQL and one ClickHouse: either may end in any way, and everything is counted once."""

import contextlib
import io
import json
from pathlib import Path

import pytest

from scripts.bench_cases import pair
from tests.collector.postgresql import find_programs

pytestmark = [
    pytest.mark.store,
    pytest.mark.full("collector.server", "collector.log", "collector.receiver", "collector.detection"),
    pytest.mark.skipif(find_programs() is None, reason="PostgreSQL is not installed (Debian's package postgresql)"),
]


def test_whoever_ends_the_other_goes_on_and_all_calls_and_alerts_are_there_once(tmp_path: Path) -> None:
    programs = find_programs()
    assert programs is not None
    ends = ["kill", "stall", "stop"]
    options = pair.parse(
        ["--sensors", "2", "--kills", str(len(ends)), "--end", *ends, "--whom", "holder", "--scanners", "1"]
    )
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        pair.run_pair(options, tmp_path, programs)
    *lines, _, totals = [json.loads(line) for line in printed.getvalue().splitlines()]
    assert [(line["load"], line["held_jobs"]) for line in lines] == [(end, True) for end in ends]
    assert totals["is_exact"] and totals["acknowledged_calls"] > 0 and len(totals["alerts"]) == 1, totals
