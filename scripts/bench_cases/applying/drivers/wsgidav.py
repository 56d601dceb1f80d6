"""Keeps files in WsgiDAV, as a file manager does."""

import sys

import requests

root = sys.argv[1]
session = requests.Session()
session.request("OPTIONS", root + "/")
session.request("PROPFIND", root + "/", headers={"Depth": "1"})
for folder in ("photos", "taxes", "drafts", "music"):
    session.request("MKCOL", f"{root}/{folder}")
    for year in (2024, 2025):
        session.request("MKCOL", f"{root}/{folder}/{year}")
        for number in range(8):
            path = f"{root}/{folder}/{year}/file-{number}.txt"
            session.put(path, data=b"content")
            session.get(path)
            session.head(path)
        session.request("PROPFIND", f"{root}/{folder}/{year}", headers={"Depth": "1"})
        session.request(
            "COPY", f"{root}/{folder}/{year}/file-1.txt", headers={"Destination": f"{root}/{folder}/{year}/copy.txt"}
        )
        session.request(
            "MOVE", f"{root}/{folder}/{year}/copy.txt", headers={"Destination": f"{root}/{folder}/{year}/moved.txt"}
        )
        session.delete(f"{root}/{folder}/{year}/moved.txt")
