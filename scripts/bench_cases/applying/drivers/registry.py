"""Pushes and pulls images as a container runtime does."""

import hashlib
import json
import sys

import requests

root = sys.argv[1]
session = requests.Session()
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def push_blob(name: str, content: bytes) -> dict[str, object]:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    session.head(f"{root}/v2/{name}/blobs/{digest}")
    place = session.post(f"{root}/v2/{name}/blobs/uploads/").headers["Location"]
    place = session.patch(place, data=content, headers={"Content-Type": "application/octet-stream"}).headers["Location"]
    session.put(place, params={"digest": digest}).raise_for_status()
    return {"mediaType": "application/octet-stream", "size": len(content), "digest": digest}


for name in (
    "shop/cart",
    "shop/orders",
    "tools/backup",
    "team/web/front",
    "nginx",
    "library/redis",
    "shop/users",
    "tools/mail",
):
    session.get(root + "/v2/")
    for tag in ("latest", "1.2", "1.3"):
        config, layer = (
            push_blob(name, json.dumps({"tag": tag, "name": name}).encode()),
            push_blob(name, f"{name}{tag}".encode()),
        )
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]}
        body = json.dumps(manifest).encode()
        session.put(
            f"{root}/v2/{name}/manifests/{tag}", data=body, headers={"Content-Type": MANIFEST}
        ).raise_for_status()
        session.head(f"{root}/v2/{name}/manifests/{tag}", headers={"Accept": MANIFEST})
        session.get(f"{root}/v2/{name}/manifests/{tag}", headers={"Accept": MANIFEST})
        session.get(f"{root}/v2/{name}/blobs/{layer['digest']}")
    session.get(f"{root}/v2/{name}/tags/list")
session.get(root + "/v2/_catalog")
