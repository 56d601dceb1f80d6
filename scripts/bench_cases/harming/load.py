"""What clients do in a round: wrk, h2load, or a client of our own, that say how many calls they made, how many failed,
and the tail of their latencies."""

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts.bench_cases.capturing.loads import find_wrk

_RESULT: Final = re.compile(r"^RESULT (\d+) (\d+) (\d+) (\d+)$", re.MULTILINE)
_DONE: Final = re.compile(r"(\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout")
# A message of gRPC: not compressed, its length, and itself.
_ORDER: Final = b"\0\0\0\0\x05order"
_OK: Final = "200"
# Calls at once on a connection of gRPC where as many are made as go: half as many again as one at a time.
STREAMS: Final = 8
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
    """A client of our own (`closing_client`), each thread one call after the other."""
    command = [sys.executable, "-m", f"scripts.bench_cases.harming.{name}", str(port), str(authority)]
    return _run([*command, str(threads), str(seconds), str(pace_ms)])


def find_h2load() -> str:
    """Its path; ends the bench where it is not installed."""
    return shutil.which("h2load") or sys.exit("bench: h2load is not installed: apt-get install nghttp2-client")


def write_order(directory: Path) -> list[str]:
    """h2load's options for a message of gRPC."""
    path = directory / "order"
    path.write_bytes(_ORDER)
    return [f"--data={path}", "-H", "content-type: application/grpc", "-H", "te: trailers"]


def run_h2load(url: str, connections: int, seconds: int, directory: Path, pace_ms: int) -> Round:
    """Unary calls of gRPC by h2load, with a pace one at a time on each connection, else some; it does not look at
    trailers."""
    log = directory / "h2load.log"
    log.unlink(missing_ok=True)
    streams = 1 if pace_ms else STREAMS
    command = [find_h2load(), f"-c{connections}", f"-m{streams}", f"-D{seconds}", f"--log-file={log}"]
    command += [*write_order(directory), url]
    if pace_ms:
        command.insert(1, f"--rps={1000 / pace_ms}")
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    match = _DONE.search(done.stdout)
    rows = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    if match is None or not rows:
        sys.exit(f"bench: h2load did not say what came of its calls: {(done.stdout + done.stderr)[-300:]}")
    log.unlink()
    failed = sum(int(count) for count in match.groups()[2:]) + sum(status != _OK for _, status, _ in rows)
    latencies = sorted(int(duration) for _, _, duration in rows)
    p99, p999 = (latencies[int(len(latencies) * share)] for share in (0.99, 0.999))
    return Round(len(rows), failed, p99, p999)


def _run(command: list[str]) -> Round:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    match = _RESULT.search(done.stdout)
    if match is None:
        sys.exit(f"bench: {command[0]} did not say what came of its calls: {(done.stdout + done.stderr)[-300:]}")
    return Round(*map(int, match.groups()))
