"""Clicks through sqlite-web as a person does."""

import sys

import requests

root = sys.argv[1]
session = requests.Session()
for _ in range(4):
    session.get(root + "/")
    session.get(root + "/query/")
    session.post(root + "/query/", data={"sql": "select 1"})
tables = (
    "orders",
    "products",
    "invoices",
    "suppliers",
    "warehouses",
    "returns",
    "ratings",
    "coupons",
    "carriers",
    "payments",
)
for table in tables:
    session.get(f"{root}/{table}/")
    session.get(f"{root}/{table}/insert/")
    for number in range(3):
        session.post(f"{root}/{table}/insert/", data={"title": f"Title {number}"}, allow_redirects=False)
    session.get(f"{root}/{table}/content/")
    session.get(f"{root}/{table}/content/?page=1&ordering=id")
    session.get(f"{root}/{table}/query/")
    session.post(f"{root}/{table}/query/", data={"sql": f'select * from "{table}"'})
    session.get(f"{root}/{table}/export/")
