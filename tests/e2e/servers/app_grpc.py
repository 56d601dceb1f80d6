"""A gRPC server of grpcio: /shop.v1.Orders/Get (unary), List (a stream of five), Put (a stream to one), Watch (both
ways), Fail (NOT_FOUND), Break (INTERNAL).

Arguments: ADDRESS [CERTIFICATE KEY]; with these over TLS.
"""

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc


def get(request: bytes, context: grpc.ServicerContext) -> bytes:
    return request


def list_orders(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
    for _ in range(5):
        yield request


def put(requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
    return b"".join(requests)


def watch(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
    yield from requests


def fail(request: bytes, context: grpc.ServicerContext) -> bytes:
    context.abort(grpc.StatusCode.NOT_FOUND, "no such order")


def break_down(request: bytes, context: grpc.ServicerContext) -> bytes:
    context.abort(grpc.StatusCode.INTERNAL, "out of order")


server = grpc.server(ThreadPoolExecutor(8))
server.add_generic_rpc_handlers(
    (
        grpc.method_handlers_generic_handler(
            "shop.v1.Orders",
            {
                "Get": grpc.unary_unary_rpc_method_handler(get),
                "List": grpc.unary_stream_rpc_method_handler(list_orders),
                "Put": grpc.stream_unary_rpc_method_handler(put),
                "Watch": grpc.stream_stream_rpc_method_handler(watch),
                "Fail": grpc.unary_unary_rpc_method_handler(fail),
                "Break": grpc.unary_unary_rpc_method_handler(break_down),
            },
        ),
    )
)
if len(sys.argv) > 3:
    certificate, key = (Path(path).read_bytes() for path in sys.argv[2:4])
    port = server.add_secure_port(f"{sys.argv[1]}:0", grpc.ssl_server_credentials([(key, certificate)]))
else:
    port = server.add_insecure_port(f"{sys.argv[1]}:0")
server.start()
print(json.dumps({"event": "ready", "port": port}), flush=True)
server.wait_for_termination()
