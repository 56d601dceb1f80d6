"""Calls hooks as a forge does."""

import sys

import requests

root = sys.argv[1]
session = requests.Session()
names = ("deploy-shop", "deploy-blog", "rotate", "nightly", "tag-release", "purge-cdn", "sync-mirror", "reindex")
for number in range(3):
    session.get(root + "/")
    for name in names:
        session.post(f"{root}/hooks/{name}", json={"ref": "refs/heads/main", "number": number})
        session.get(f"{root}/hooks/{name}")
