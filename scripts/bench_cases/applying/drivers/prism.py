"""Calls every path of the description that Prism mocks."""

import sys

import requests

root = sys.argv[1]
session = requests.Session()
for number in range(12):
    session.get(root + "/ping")
    session.get(root + "/orders")
    session.post(root + "/orders")
    for method in ("get", "put", "delete"):
        session.request(method, f"{root}/orders/ord_{number}x9")
    session.get(f"{root}/orders/ord_{number}x9/items")
    session.get(f"{root}/stores/{('berlin', 'paris', 'rome')[number % 3]}/stock/sku-{number}")
    session.put(f"{root}/stores/{('berlin', 'paris', 'rome')[number % 3]}/stock/sku-{number}")
    session.get(f"{root}/reports/{2020 + number % 5}/{1 + number % 12}")
