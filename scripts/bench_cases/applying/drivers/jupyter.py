"""Edits notebooks and runs code in Jupyter as its pages do."""

import json
import sys
import uuid

import requests
import websocket

TOKEN = "6b1f0c2d9e8a47b5a3c1d2e3f4a5b6c7"
root = sys.argv[1]
session = requests.Session()
session.headers["Authorization"] = f"token {TOKEN}"
NOTEBOOK = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
for _ in range(3):
    for path in ("/api", "/api/status", "/api/me", "/api/kernelspecs", "/api/terminals", "/api/contents"):
        session.get(root + path)
for folder in ("trips", "trips/rome", "budget"):
    session.put(f"{root}/api/contents/{folder}", json={"type": "directory"}).raise_for_status()
names = [
    f"{folder}/{name}.ipynb" for folder in ("trips", "trips/rome", "budget") for name in ("plan", "map", "draft-2")
]
for name in (*names, "readme.md"):
    model = {"type": "notebook", "format": "json", "content": NOTEBOOK}
    if name.endswith(".md"):
        model = {"type": "file", "format": "text", "content": "# Notes"}
    session.put(f"{root}/api/contents/{name}", json=model).raise_for_status()
    session.get(f"{root}/api/contents/{name}")
    session.post(f"{root}/api/contents/{name}/checkpoints")
    session.get(f"{root}/api/contents/{name}/checkpoints")
    session.get(f"{root}/files/{name}")
for name in names[:4]:
    opened = session.post(
        root + "/api/sessions",
        json={"path": name, "name": name, "type": "notebook", "kernel": {"name": "python3"}},
    ).json()
    kernel = opened["kernel"]["id"]
    session.get(f"{root}/api/sessions/{opened['id']}")
    session.get(f"{root}/api/kernels/{kernel}")
    socket = websocket.create_connection(
        f"{root.replace('http', 'ws')}/api/kernels/{kernel}/channels?session_id={uuid.uuid4()}",
        header={"Authorization": f"token {TOKEN}"},
    )
    message = {
        "msg_id": str(uuid.uuid4()),
        "msg_type": "kernel_info_request",
        "username": "",
        "session": "",
        "version": "5",
    }
    socket.send(json.dumps({"header": message, "parent_header": {}, "metadata": {}, "content": {}, "channel": "shell"}))
    socket.recv()
    socket.close()
    session.post(f"{root}/api/kernels/{kernel}/interrupt")
    session.delete(f"{root}/api/sessions/{opened['id']}")
session.get(root + "/api/sessions")
session.get(root + "/api/kernels")
for name in names[:3]:
    session.patch(f"{root}/api/contents/{name}", json={"path": name.replace("plan", "idea").replace("map", "area")})
for name in names[4:7]:
    session.delete(f"{root}/api/contents/{name}")
