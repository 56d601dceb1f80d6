"""Keeps records in Kinto with its own client."""

import sys

import kinto_http
import requests

root = sys.argv[1]
for user in ("anna", "bruno", "carla", "dora"):
    requests.put(f"{root}/v1/accounts/{user}", json={"data": {"password": "correct-horse"}}).raise_for_status()
    client = kinto_http.Client(server_url=root + "/v1", auth=(user, "correct-horse"))
    client.server_info()
    bucket = f"notes-{user}"
    client.create_bucket(id=bucket)
    client.get_bucket(id=bucket)
    for collection in ("articles", "links"):
        client.create_collection(id=collection, bucket=bucket)
        client.get_collection(id=collection, bucket=bucket)
        made = [
            client.create_record(
                data={"title": f"Title {number}", "read": False}, collection=collection, bucket=bucket
            )["data"]
            for number in range(6)
        ]
        client.get_records(collection=collection, bucket=bucket)
        for record in made:
            client.get_record(id=record["id"], collection=collection, bucket=bucket)
            client.patch_record(id=record["id"], data={"read": True}, collection=collection, bucket=bucket)
        client.delete_record(id=made[0]["id"], collection=collection, bucket=bucket)
    client.get_collections(bucket=bucket)
    client.create_group(id="readers", bucket=bucket, data={"members": []})
    client.get_groups(bucket=bucket)
