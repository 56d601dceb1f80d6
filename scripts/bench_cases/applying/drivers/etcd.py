"""Uses etcd over its JSON gateway."""

import base64
import sys

import requests

root = sys.argv[1]
session = requests.Session()


def encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


for number in range(12):
    session.post(root + "/v3/kv/put", json={"key": encode(f"/registry/pods/{number}"), "value": encode("value")})
    session.post(root + "/v3/kv/range", json={"key": encode(f"/registry/pods/{number}")})
    lease = session.post(root + "/v3/lease/grant", json={"TTL": 60}).json()["ID"]
    session.post(root + "/v3/lease/revoke", json={"ID": lease})
    session.post(root + "/v3/kv/deleterange", json={"key": encode(f"/registry/pods/{number}")})
for _ in range(3):
    session.post(root + "/v3/cluster/member/list", json={})
    session.post(root + "/v3/maintenance/status", json={})
    for path in ("/version", "/health", "/metrics"):
        session.get(root + path)
