"""Reads features and runs a process, as a client of OGC API does."""

import sys

import requests

root = sys.argv[1]
session = requests.Session()
collections = ["lakes", "stations", "trails", "wells", "bridges", "parcels"]
for _ in range(3):
    for path in ("/", "/conformance", "/openapi", "/collections", "/processes", "/jobs"):
        session.get(f"{root}{path}?f=json")
    for name in collections:
        session.get(f"{root}/collections/{name}?f=json")
        session.get(f"{root}/collections/{name}/queryables?f=json")
        session.get(f"{root}/collections/{name}/schema?f=json")
        session.get(f"{root}/collections/{name}/items?f=json&limit=5")
        for number in range(4):
            session.get(f"{root}/collections/{name}/items/{number}?f=json")
    session.get(f"{root}/processes/hello-world?f=json")
    for _ in range(4):
        answer = session.post(
            f"{root}/processes/hello-world/execution",
            json={"inputs": {"name": "harbour"}},
            headers={"Prefer": "respond-async"},
        )
        job = answer.headers.get("Location", "").rpartition("/")[2]
        session.get(f"{root}/jobs/{job}?f=json")
        session.get(f"{root}/jobs/{job}/results?f=json")
        session.delete(f"{root}/jobs/{job}")
