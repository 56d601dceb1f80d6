"""Writes samples to VictoriaMetrics in several formats and asks for them."""

import sys
import time

import requests

root = sys.argv[1]
session = requests.Session()
now = int(time.time())
for number in range(8):
    session.post(root + "/write", data=f"weather,city=c{number} degrees={number} {now}000000000")
    session.post(root + "/api/v1/import/prometheus", data=f'humidity{{city="c{number}"}} {number}\n')
    session.post(
        root + "/api/v1/import", json={"metric": {"__name__": "wind"}, "values": [1], "timestamps": [now * 1000]}
    )
session.post(root + "/api/v1/import/csv", params={"format": "1:metric:rain,2:label:city"}, data="3,oslo\n4,bern\n")
session.get(root + "/internal/force_flush")
for _ in range(5):
    for path in ("query", "query_range"):
        session.get(f"{root}/api/v1/{path}", params={"query": "humidity", "step": "60"})
        session.get(f"{root}/prometheus/api/v1/{path}", params={"query": "humidity", "step": "60"})
    session.post(root + "/api/v1/query", data={"query": "weather_degrees"})
    session.get(root + "/api/v1/labels")
    session.get(root + "/api/v1/series", params={"match[]": "humidity"})
    session.get(root + "/api/v1/status/tsdb")
    session.get(root + "/api/v1/export", params={"match[]": "humidity"})
    session.get(root + "/federate", params={"match[]": "humidity"})
for label in ("city", "__name__", "instance", "job", "zone", "city"):
    session.get(f"{root}/api/v1/label/{label}/values").raise_for_status()
for path in ("/health", "/metrics", "/targets", "/flags", "/vmui/", "/api/v1/status/active_queries", "/-/reload"):
    session.get(root + path)
    session.get(root + path)
session.post(root + "/api/v1/admin/tsdb/delete_series", params={"match[]": "wind"})
for name in [session.get(root + "/snapshot/create").json()["snapshot"] for _ in range(2)]:
    session.get(root + "/snapshot/list")
    session.get(root + "/snapshot/delete", params={"snapshot": name})
