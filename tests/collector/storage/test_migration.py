"""A store of the release before opens, keeps its calls, and counts new ones by the new columns."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from collector.core.kinds import BITS, Protocol

pytestmark = pytest.mark.store
SCRIPT = Path(__file__).with_name("migrate.py")


def test_a_store_of_0_1_0_is_brought_up_to_date(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path / "store")], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    # A row of before has no RPC status, and none is merged with one that has.
    assert told["minute"] == [[200, 0, 5], [200, 1, 5], [200, 14, 7], [500, 0, 2]]
    assert told["hour"] == [[0, 0, 7], [1, 1, 5], [1, 14, 7]]
    # 19 calls: 5 + 5 served, 2 + 7 failed at the server; of those served one was not judged, 3 + 4 had credentials.
    assert told["day"] == [[19, 10, 9, 9, 7, BITS[Protocol.GRPC]]]
    # The index by endpoint is made of earlier rows.
    assert told["named"] == [[7]] and [made for _, made in told["indexed_bytes"]] == [1]
