"""Reads figures of the machine from Glances."""

import sys
import time

import requests

root = sys.argv[1]
session = requests.Session()
time.sleep(3)
for _ in range(3):
    for path in ("status", "all", "pluginslist", "cpu", "mem", "load", "uptime", "fs", "network", "processcount"):
        session.get(f"{root}/api/4/{path}")
    for path in ("cpu/total", "cpu/user", "cpu/system", "mem/percent", "mem/free", "load/min1", "load/min5"):
        session.get(f"{root}/api/4/{path}")
    session.get(f"{root}/api/4/cpu/history")
    session.get(f"{root}/api/4/mem/history/3")
    session.get(f"{root}/api/4/cpu/limits")
    session.get(f"{root}/api/4/load/views")
    session.get(root + "/status")
