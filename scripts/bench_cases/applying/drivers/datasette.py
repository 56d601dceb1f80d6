"""Reads tables of Datasette, its pages and its JSON."""

import sys

import requests

root = sys.argv[1]
session = requests.Session()
for _ in range(3):
    for path in (
        "/",
        "/-/versions.json",
        "/-/plugins.json",
        "/-/databases.json",
        "/-/settings.json",
        "/city",
        "/city.json",
    ):
        session.get(root + path)
for table in ("trees", "benches", "lamps", "roads"):
    session.get(f"{root}/city/{table}")
    session.get(f"{root}/city/{table}.json", params={"_shape": "array", "_size": 20})
    for number in range(1, 13):
        session.get(f"{root}/city/{table}/{number}")
        session.get(f"{root}/city/{table}/{number}.json")
