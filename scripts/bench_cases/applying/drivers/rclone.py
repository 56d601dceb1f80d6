"""Moves files by remote control."""

import sys
from pathlib import Path

import requests

root = sys.argv[1]
files = str(Path("files").absolute())
session = requests.Session()


def call(command: str, **fields: object) -> dict[str, object]:
    return session.post(f"{root}/{command}", json=fields).json()


for round_number in range(3):
    for command in ("core/version", "core/stats", "core/memstats", "rc/list", "job/list", "options/get"):
        call(command)
    call("rc/noop", value=round_number)
    call("config/create", name=f"disk{round_number}", type="local", parameters={})
    for command in ("config/listremotes", "config/dump"):
        call(command)
    call("config/get", name=f"disk{round_number}")
    for _ in range(4):
        call("operations/list", fs=files, remote="")
        call("operations/about", fs=files)
        call("operations/stat", fs=files, remote="notes.txt")
    call("operations/mkdir", fs=files, remote=f"new{round_number}")
    fields = {"srcFs": files, "srcRemote": "plan.txt", "dstFs": files, "dstRemote": f"new{round_number}/plan.txt"}
    call("operations/copyfile", **fields)
    job = call("sync/copy", srcFs=f"{files}/new{round_number}", dstFs=f"{files}/copy", _async=True)
    call("job/status", jobid=job["jobid"])
    call("operations/purge", fs=files, remote=f"new{round_number}")
    call("config/delete", name=f"disk{round_number}")
