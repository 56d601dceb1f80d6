"""Downloads files from Caddy's file server."""

import sys

import requests

root = sys.argv[1]
session = requests.Session()
session.get(root + "/")
for folder in ("css", "docs", "images"):
    session.get(f"{root}/{folder}/")
    for number in range(1, 10):
        session.get(f"{root}/{folder}/{number}/page.html")
        session.get(f"{root}/{folder}/file-{number}.txt")
        session.head(f"{root}/{folder}/file-{number}.txt")
