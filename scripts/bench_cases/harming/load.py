"""What clients do in a round: wrk, or a client of our own, that say how many calls they made, how many failed, and
the tail of their latencies."""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts.bench_cases.capturing.loads import find_wrk

_RESULT: Final = re.compile(r"^RESULT (\d+) (\d+) (\d+) (\d+)$", re.MULTILINE)
_LUA: Final = """
local sent = 0
PAUSE
function request()
  sent = sent + 1
  return wrk.format("GET", "/orders/" .. math.random(1, 1000000000), {["X-Request-Id"] = tostring(sent)})
end
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %d %d\\n", summary.requests, e.connect + e.read + e.write + e.timeout + e.status,
    latency:percentile(99), latency:percentile(99.9)))
end
"""


@dataclass(frozen=True, slots=True)
class Round:
    """One run of a client."""

    calls: int
    errors: int
    p99_us: int
    p999_us: int


def write_script(path: Path, pace_ms: int) -> Path:
    """wrk's: a connection rests so long between its calls; 0: not at all."""
    path.write_text(_LUA.replace("PAUSE", f"function delay() return {pace_ms} end" if pace_ms else ""))
    return path


def run_wrk(url: str, connections: int, seconds: int, script: Path) -> Round:
    """One thread of wrk with that script."""
    return _run([find_wrk(), "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), url])


def run_client(name: str, port: int, authority: Path, threads: int, seconds: int, pace_ms: int) -> Round:
    """A client of our own (`grpc_client`, `closing_client`), each thread one call after the other."""
    command = [sys.executable, "-m", f"scripts.bench_cases.harming.{name}", str(port), str(authority)]
    return _run([*command, str(threads), str(seconds), str(pace_ms)])


def _run(command: list[str]) -> Round:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    match = _RESULT.search(done.stdout)
    if match is None:
        sys.exit(f"bench: {command[0]} did not say what came of its calls: {(done.stdout + done.stderr)[-300:]}")
    return Round(*map(int, match.groups()))
