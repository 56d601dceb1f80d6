"""Pushes metrics of batch jobs with Prometheus's own client."""

import sys

import requests
from prometheus_client import CollectorRegistry, Gauge, delete_from_gateway, push_to_gateway, pushadd_to_gateway

root = sys.argv[1]
registry = CollectorRegistry()
Gauge("last_success_unixtime", "When the job last succeeded", registry=registry).set_to_current_time()
jobs = ["backup", "report", "cleanup", "import", "billing", "reindex", "mailing", "sync", "invoices", "export"]
for job in jobs:
    push_to_gateway(root, job=job, registry=registry)
    pushadd_to_gateway(root, job=job, registry=registry)
    for number in range(3):
        push_to_gateway(root, job=job, grouping_key={"instance": f"worker-{number}"}, registry=registry)
for _ in range(5):
    for path in ("/metrics", "/api/v1/metrics", "/api/v1/status", "/-/healthy", "/-/ready"):
        requests.get(root + path)
for job in jobs[:5]:
    delete_from_gateway(root, job=job)
    delete_from_gateway(root, job=job, grouping_key={"instance": "worker-1"})
