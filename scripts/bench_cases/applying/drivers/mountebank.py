"""Sets up and looks at imposters, as a test suite does."""

import socket
import sys

import requests

root = sys.argv[1]
session = requests.Session()


def find_free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def make_stub(path: str, text: str) -> dict[str, object]:
    return {
        "predicates": [{"equals": {"path": path}}],
        "responses": [{"is": {"statusCode": 200, "body": text}}],
    }


for _ in range(3):
    for path in ("/", "/imposters", "/config", "/logs?startIndex=0&endIndex=5"):
        session.get(root + path, headers={"Accept": "application/json"})
    ports = [find_free_port() for _ in range(6)]
    for port in ports:
        imposter = {"port": port, "protocol": "http", "name": f"service {port}", "stubs": [make_stub("/a", "first")]}
        session.post(f"{root}/imposters", json=imposter)
    for port in ports:
        session.get(f"{root}/imposters/{port}")
        for number in range(3):
            session.post(f"{root}/imposters/{port}/stubs", json={"stub": make_stub(f"/{number}", "text")})
        session.put(f"{root}/imposters/{port}/stubs/1", json=make_stub("/b", "other"))
        session.delete(f"{root}/imposters/{port}/stubs/2")
        session.put(f"{root}/imposters/{port}/stubs", json={"stubs": [make_stub("/c", "last")]})
        session.delete(f"{root}/imposters/{port}/savedRequests")
        session.delete(f"{root}/imposters/{port}/savedProxyResponses")
    for port in ports[:3]:
        session.delete(f"{root}/imposters/{port}")
    session.put(f"{root}/imposters", json={"imposters": []})
    session.delete(f"{root}/imposters")
