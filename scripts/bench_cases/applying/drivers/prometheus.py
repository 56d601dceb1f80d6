"""Queries Prometheus as Grafana does."""

import sys
import time

import requests

root = sys.argv[1]
session = requests.Session()
now = time.time()
for number in range(8):
    session.get(root + "/api/v1/query", params={"query": f"up + {number}"})
    session.post(root + "/api/v1/query_range", data={"query": "vector(1)", "start": now - 600, "end": now, "step": 15})
    session.get(root + "/api/v1/query_range", params={"query": "vector(1)", "start": now - 600, "end": now, "step": 15})
    session.get(root + "/api/v1/labels")
    session.get(root + "/api/v1/series", params={"match[]": "up"})
for label in (
    "__name__",
    "job",
    "instance",
    "pod",
    "namespace",
    "container",
    "le",
    "mode",
    "code",
    "method",
    "handler",
    "device",
):
    session.get(f"{root}/api/v1/label/{label}/values")
for path in (
    "targets",
    "rules",
    "alerts",
    "metadata",
    "status/config",
    "status/flags",
    "status/buildinfo",
    "status/tsdb",
    "status/runtimeinfo",
):
    for _ in range(3):
        session.get(f"{root}/api/v1/{path}")
for path in ("/-/healthy", "/-/ready", "/metrics", "/federate?match[]=up"):
    for _ in range(3):
        session.get(root + path)
