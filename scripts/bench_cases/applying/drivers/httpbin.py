"""Calls httpbin as its documentation shows, some hundred times."""

import sys
import uuid

import requests

root = sys.argv[1]
session = requests.Session()
for path in (
    "/",
    "/get",
    "/headers",
    "/ip",
    "/uuid",
    "/user-agent",
    "/anything",
    "/cookies",
    "/json",
    "/xml",
    "/html",
    "/gzip",
    "/deflate",
    "/cache",
    "/forms/post",
    "/response-headers?a=b",
):
    for _ in range(5):
        session.get(root + path)
for method in ("post", "put", "patch", "delete"):
    for number in range(5):
        session.request(method, f"{root}/{method}", json={"number": number})
for number in range(12):
    session.get(f"{root}/status/{200 + number % 5}")
    session.get(f"{root}/bytes/{100 + number}")
    session.get(f"{root}/base64/SFRUUEJJTiBpcyBhd2Vzb21l")
    session.get(f"{root}/basic-auth/user{number}/secret{number}", auth=(f"user{number}", f"secret{number}"))
    session.get(f"{root}/bearer", headers={"Authorization": f"Bearer {uuid.uuid4().hex}"})
    session.get(f"{root}/redirect/1", allow_redirects=False)
    session.get(f"{root}/etag/{uuid.uuid4().hex}")
    session.get(f"{root}/image/{('png', 'jpeg', 'svg', 'webp')[number % 4]}")
    session.get(f"{root}/links/{number + 2}/{number}")
    session.get(f"{root}/range/{1024 + number}")
    session.get(f"{root}/stream/{number + 1}")
    session.get(f"{root}/cache/{number}")
    session.get(f"{root}/anything/{('a', 'b', 'c/d')[number % 3]}/{number}")
    session.get(f"{root}/cookies/set/name{number}/value", allow_redirects=False)
