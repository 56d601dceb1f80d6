"""Keeps documents in pouchdb-server as a client of CouchDB does."""

import sys

import requests

root = sys.argv[1]
session = requests.Session()
session.get(root + "/")
session.get(root + "/_session")
for name in ("recipes", "orders", "events", "diary"):
    session.put(f"{root}/{name}")
    session.get(f"{root}/{name}")
    session.post(
        f"{root}/{name}/_bulk_docs", json={"docs": [{"_id": f"bulk-{number}", "n": number} for number in range(5)]}
    )
    for number in range(8):
        answer = session.put(f"{root}/{name}/note-{number}", json={"text": f"text {number}"}).json()
        session.get(f"{root}/{name}/note-{number}")
        if number % 2:
            session.delete(f"{root}/{name}/note-{number}", params={"rev": answer["rev"]})
    session.get(f"{root}/{name}/_all_docs", params={"include_docs": "true"})
    session.get(f"{root}/{name}/_changes")
    session.post(f"{root}/{name}/_revs_diff", json={"bulk-1": ["1-abc"]})
session.get(root + "/_all_dbs")
