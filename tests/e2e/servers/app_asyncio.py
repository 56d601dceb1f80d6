"""The test application over asyncio's streams; see tests/e2e/application.py for what it answers.

TLS is done in memory there (ssl.MemoryBIO): the library never sees a socket. Arguments: ADDRESS [CERTIFICATE KEY].
"""

import asyncio
import json
import ssl
import sys


def answer(method: str, path: str) -> tuple[int, bytes]:
    if path == "/orders" and method == "POST":
        return 201, b'{"number": 1}'
    if path.startswith("/orders/"):
        return (204, b"") if method == "DELETE" else (200, b'{"state": "sent"}')
    return (304, b"") if path.startswith("/users/") else (404, b"{}")


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            line, _, rest = head.partition("\r\n")
            method, target, _ = line.split(" ")
            names = dict(field.lower().split(": ", 1) for field in rest.strip().split("\r\n") if field)
            await reader.readexactly(int(names.get("content-length", "0")))
            status, body = answer(method, target.partition("?")[0])
            length = "" if status in (204, 304) else f"Content-Length: {len(body)}\r\n"
            writer.write(f"HTTP/1.1 {status} Done\r\nContent-Type: application/json\r\n{length}\r\n".encode())
            if method != "HEAD" and body:
                writer.write(body)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main() -> None:
    context = None
    if len(sys.argv) > 3:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[2], sys.argv[3])
    server = await asyncio.start_server(serve, sys.argv[1], 0, ssl=context)
    print(json.dumps({"event": "ready", "port": server.sockets[0].getsockname()[1]}), flush=True)
    await server.serve_forever()


asyncio.run(main())
