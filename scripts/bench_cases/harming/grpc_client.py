"""Calls /shop.v1.Orders/Get over TLS. Arguments: PORT AUTHORITY THREADS SECONDS PACE_MS; says as wrk does in `load`
RESULT calls errors p99_us p999_us.
"""

import sys
import threading
import time
from pathlib import Path

import grpc

CALL_SECONDS = 10.0


class Caller:
    """One channel, one call at a time; a failed or a wrong answer is an error."""

    def __init__(self, port: int, authority: bytes, until: float, pace_seconds: float) -> None:
        self._port, self._authority, self._until, self._pace_seconds = port, authority, until, pace_seconds
        self.latencies: list[float] = []
        self.errors = 0

    def run(self) -> None:
        """Until the time is over."""
        # Without an option of its own each channel would share one connection with the others.
        options = (("grpc.use_local_subchannel_pool", 1),)
        credentials = grpc.ssl_channel_credentials(self._authority)
        with grpc.secure_channel(f"127.0.0.1:{self._port}", credentials, options) as channel:
            call = channel.unary_unary("/shop.v1.Orders/Get")
            while (began := time.monotonic()) < self._until:
                try:
                    self.errors += call(b"order", timeout=CALL_SECONDS) != b"order"
                except grpc.RpcError:
                    self.errors += 1
                self.latencies.append(time.monotonic() - began)
                if self._pace_seconds:
                    time.sleep(self._pace_seconds)


def main() -> None:
    port, authority, threads, seconds, pace_ms = sys.argv[1:]
    until = time.monotonic() + float(seconds)
    callers = [Caller(int(port), Path(authority).read_bytes(), until, int(pace_ms) / 1e3) for _ in range(int(threads))]
    running = [threading.Thread(target=caller.run) for caller in callers]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    latencies = sorted(one for caller in callers for one in caller.latencies)
    p99, p999 = (round(latencies[int(len(latencies) * share)] * 1e6) for share in (0.99, 0.999))
    print(f"RESULT {len(latencies)} {sum(caller.errors for caller in callers)} {p99} {p999}")


if __name__ == "__main__":
    main()
