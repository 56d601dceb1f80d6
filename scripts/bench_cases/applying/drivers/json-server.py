"""Reads and writes all tables of json-server."""

import sys

import requests

root = sys.argv[1]
session = requests.Session()
session.get(root + "/db")
for table in ("posts", "comments", "albums", "todos"):
    session.get(f"{root}/{table}")
    session.get(f"{root}/{table}?_page=2")
    for number in range(10):
        session.post(f"{root}/{table}", json={"title": f"New {number}"})
        session.get(f"{root}/{table}/{number + 1}")
        session.put(f"{root}/{table}/{number + 1}", json={"title": f"Put {number}"})
        session.patch(f"{root}/{table}/{number + 1}", json={"title": f"Patch {number}"})
        session.delete(f"{root}/{table}/{number + 20}")
for number in range(1, 9):
    session.get(f"{root}/posts/{number}/comments")
