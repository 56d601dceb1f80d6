"""Administers Syncthing over its REST API."""

import sys

import requests

root = sys.argv[1]
session = requests.Session()
session.headers["X-API-Key"] = "abc123def456ghi789jkl"
for _ in range(4):
    for path in (
        "system/status",
        "system/version",
        "system/ping",
        "system/config",
        "config",
        "config/folders",
        "config/devices",
        "stats/device",
        "stats/folder",
        "system/connections",
        "system/log",
        "svc/report",
        "system/error",
    ):
        session.get(f"{root}/rest/{path}")
    requests.get(root + "/rest/noauth/health")
names = ("photos", "music", "papers", "notes", "videos", "backup", "books", "scans", "work", "drafts")
for name in names:
    session.post(
        root + "/rest/config/folders", json={"id": f"{name}-x7", "path": f"/tmp/nowhere/{name}", "paused": True}
    )
    session.get(f"{root}/rest/config/folders/{name}-x7")
    session.patch(f"{root}/rest/config/folders/{name}-x7", json={"label": name})
    session.get(root + "/rest/db/status", params={"folder": f"{name}-x7"})
for name in names[:5]:
    session.delete(f"{root}/rest/config/folders/{name}-x7")
