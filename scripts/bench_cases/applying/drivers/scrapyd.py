"""Asks Scrapyd for its projects and jobs, as its client does."""

import sys

import requests

root = sys.argv[1]
session = requests.Session()
for number in range(4):
    for path in ("", "jobs", "logs/"):
        session.get(f"{root}/{path}")
    for name in ("daemonstatus", "listprojects"):
        session.get(f"{root}/{name}.json")
    for name in ("listversions", "listspiders", "listjobs"):
        session.get(f"{root}/{name}.json", params={"project": "shop"})
    session.get(f"{root}/status.json", params={"job": "1"})
    session.post(f"{root}/schedule.json", data={"project": "shop", "spider": "prices"})
    session.post(f"{root}/cancel.json", data={"project": "shop", "job": str(number)})
    session.post(f"{root}/delproject.json", data={"project": "other"})
    for run in range(1, 7):
        session.get(f"{root}/logs/shop/prices/run-{run}.log")
