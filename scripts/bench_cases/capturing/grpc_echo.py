"""A gRPC service that echoes, and its client: `python -m scripts.bench_cases.capturing.grpc_echo serve PORT`, or
`call PORT SECONDS TOKENS`, which prints how many unary calls were answered.

Three channels with eight calls each at a time, of ten methods by turns; each call carries one of so many tokens.
"""

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc

CHANNELS = 3
AT_ONCE = 8
METHODS = 10
SERVICE = "bench.v1.Echo"
MESSAGE = b"m" * 40


def serve(port: int) -> None:
    """Until it is killed."""
    handler = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
    server = grpc.server(ThreadPoolExecutor(4))
    handlers = {f"Say{number}": handler for number in range(METHODS)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


def call(port: int, seconds: float, tokens: int) -> int:
    """Calls answered."""
    until = time.monotonic() + seconds
    counts: list[int] = []

    def run() -> None:
        # A connection of its own for each channel, as programs of their own have.
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            methods = [channel.unary_unary(f"/{SERVICE}/Say{number}", None, None) for number in range(METHODS)]
            count = 0
            while time.monotonic() < until:
                metadata = (("authorization", f"Bearer token-{count // AT_ONCE % tokens}-abcdefgh"),)
                method = methods[count // AT_ONCE % METHODS]
                pending = [method.future(MESSAGE, metadata=metadata) for _ in range(AT_ONCE)]
                count += sum(one.result() == MESSAGE for one in pending)
            counts.append(count)

    threads = [threading.Thread(target=run) for _ in range(CHANNELS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    else:
        print(call(int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])), flush=True)
