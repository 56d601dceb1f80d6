"""What a report of a capture file costs: processor seconds of `apidae replay FILE --report` by calls of the file.

    scripts/bench capture_report [--calls 100000] [--seconds 600]

The file is made here: connections with 50 calls each, half of the calls with a JSON body of some 300 bytes that holds
personal data. No two request heads are equal. Process time of a process of its own, with all threads, children and the
start of Python; and the most memory that it took.
"""

import argparse
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from scripts.bench_cases.describe import CREDENTIALS, write_browser_head, write_program_head

CALLS_A_CONNECTION = 50
START_SECONDS = 1_760_000_000
SERVER = bytes((10, 0, 0, 2))
PORT = 8080
_SYN, _ACK, _FIN = 2, 16, 1


def write_packet(
    time: float, source: bytes, destination: bytes, ports: tuple[int, int], *tcp: int, data: bytes
) -> bytes:
    """One record of a pcap file of raw IPv4; `tcp` is sequence, acknowledgement, flags."""
    sequence, acknowledgement, flags = tcp
    size = 40 + len(data)
    ip = struct.pack(">BBHHHBBH", 0x45, 0, size, 1, 0, 64, 6, 0) + source + destination
    segment = struct.pack(">HHIIBBHHH", *ports, sequence, acknowledgement, 5 << 4, flags, 65_535, 0, 0)
    seconds = int(time)
    return struct.pack("<IIII", seconds, int((time - seconds) * 1e6), size, size) + ip + segment + data


def write_capture(path: Path, calls: int, seconds: float) -> None:
    """A file with so many calls in so long a time."""
    source = random.Random(1)
    body = json.dumps(
        [{"id": 4711, "name": "Jane Doe", "email": "jane@example.org", "city": "Berlin", "note": "x" * 40}] * 2
    ).encode()
    records: list[tuple[float, int, bytes]] = []
    for first in range(0, calls, CALLS_A_CONNECTION):
        client, port = bytes((198, 51, 100, source.randrange(CREDENTIALS) % 250 + 1)), 20_000 + first // 50 % 40_000
        begun, sent, received = first / calls * seconds, 1_000, 5_000
        ends = ((client, SERVER, (port, PORT)), (SERVER, client, (PORT, port)))

        def add(
            time: float,
            end: int,
            flags: int,
            data: bytes = b"",
            ends: tuple[tuple[bytes, bytes, tuple[int, int]], ...] = ends,
        ) -> None:
            nonlocal sent, received
            own, other = (sent, received) if end == 0 else (received, sent)
            records.append(
                (time, len(records), write_packet(time + START_SECONDS, *ends[end], own, other, flags, data=data))
            )
            more = len(data) + bool(flags & (_SYN | _FIN))
            sent, received = (sent + more, received) if end == 0 else (sent, received + more)

        add(begun, 0, _SYN)
        add(begun, 1, _SYN | _ACK)
        for number in range(first, min(first + CALLS_A_CONNECTION, calls)):
            at = begun + (number - first) * 0.02 + 0.001
            head = write_program_head(source, number) if number % 2 else write_browser_head(source, number)
            content = body if number % 2 else b"{}"
            add(at, 0, _ACK, head)
            answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(content)
            add(at + 0.004, 1, _ACK, answer + content)
        add(begun + 1.1, 0, _FIN | _ACK)
        add(begun + 1.1, 1, _FIN | _ACK)
    records.sort(key=lambda record: record[:2])
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 101))
        file.writelines(record for _, _, record in records)


def measure(calls: int, seconds: float) -> dict[str, object]:
    """One run."""
    with tempfile.TemporaryDirectory() as directory:
        path, target = Path(directory) / "bench.pcap", Path(directory) / "out.json"
        write_capture(path, calls, seconds)
        command = [str(Path(sys.executable).with_name("apidae")), "replay", str(path), "--report", str(target)]
        child = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        assert child.returncode == 0, child.returncode
        report = json.loads(target.read_text())
        assert report["account"]["calls"] == calls, report["account"]
        assert sum(service["calls"] for service in report["services"]) == calls
        return {
            "scenario": "capture_report",
            "calls": calls,
            "capture_seconds": seconds,
            "file_mb": round(path.stat().st_size / 1e6, 1),
            "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
            "memory_mb": round(usage.ru_maxrss / 1e3),
        }


def run(calls: int, seconds: float) -> Iterator[dict[str, object]]:
    """An almost empty file, and one of so many calls."""
    yield measure(CALLS_A_CONNECTION, 1.0)
    yield measure(calls, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench capture_report")
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=600.0)
    options = parser.parse_args()
    for line in run(options.calls, options.seconds):
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
