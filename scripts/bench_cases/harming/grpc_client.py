"""Calls /shop.v1.Orders/Get over TLS. Arguments: PORT AUTHORITY THREADS SECONDS PACE_MS; says as wrk does in `load`
RESULT calls errors p99_us p999_us.
"""

import sys
import time
from pathlib import Path
from typing import Final

import grpc

from scripts.bench_cases.harming.callers import run_callers

CALL_SECONDS: Final = 10.0
# Without an option of its own each channel would share one connection with the others.
_OPTIONS: Final = (("grpc.use_local_subchannel_pool", 1),)


class Caller:
    """One channel; a failed call or a wrong answer is an error."""

    def __init__(self, port: int, authority: bytes) -> None:
        self._channel = grpc.secure_channel(f"127.0.0.1:{port}", grpc.ssl_channel_credentials(authority), _OPTIONS)
        self._call = self._channel.unary_unary("/shop.v1.Orders/Get")

    def call(self) -> bool:
        """Whether the answer came."""
        try:
            return bool(self._call(b"order", timeout=CALL_SECONDS) == b"order")
        except grpc.RpcError:
            return False

    def close(self) -> None:
        """The channel."""
        self._channel.close()


def main() -> None:
    port, authority, threads, seconds, pace_ms = sys.argv[1:]
    callers = [Caller(int(port), Path(authority).read_bytes()) for _ in range(int(threads))]
    print(run_callers(callers, time.monotonic() + float(seconds), int(pace_ms) / 1e3))


if __name__ == "__main__":
    main()
