"""Keeps indexes and packages in devpi, with its own API."""

import io
import sys
import tarfile

import requests

root = sys.argv[1]
JSON = {"Accept": "application/json"}


def pack(name: str, version: str) -> bytes:
    content = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w:gz") as archive:
        entry = tarfile.TarInfo(f"{name}-{version}/PKG-INFO")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return output.getvalue()


for user in ("nadia", "oskar", "pia", "quentin"):
    session = requests.Session()
    session.headers.update(JSON)
    session.get(root + "/+api")
    session.put(f"{root}/{user}", json={"password": "correct-horse"}).raise_for_status()
    login = session.post(root + "/+login", json={"user": user, "password": "correct-horse"}).json()["result"]
    session.auth = (user, login["password"])
    session.headers["X-Devpi-Auth"] = requests.models.to_native_string(
        __import__("base64").b64encode(f"{user}:{login['password']}".encode())
    )
    session.get(f"{root}/{user}")
    for index in ("dev", "stable"):
        session.put(f"{root}/{user}/{index}", json={"type": "stage", "bases": []}).raise_for_status()
        session.get(f"{root}/{user}/{index}")
        session.get(f"{root}/{user}/{index}/+api")
        for project in ("parser", f"{user}-tools", "metrics-kit"):
            for version in ("1.0", "1.1"):
                files = {"content": (f"{project}-{version}.tar.gz", pack(project, version))}
                form = {":action": "file_upload", "name": project, "version": version}
                session.post(f"{root}/{user}/{index}/", data=form, files=files).raise_for_status()
            session.get(f"{root}/{user}/{index}/{project}")
            session.get(f"{root}/{user}/{index}/{project}/1.0")
            page = requests.get(f"{root}/{user}/{index}/+simple/{project}/").text
            link = page.split('href="')[1].split("#")[0]
            requests.get(requests.compat.urljoin(f"{root}/{user}/{index}/+simple/{project}/", link))
        requests.get(f"{root}/{user}/{index}/+simple/")
    session.delete(f"{root}/{user}/stable")
    session.patch(f"{root}/{user}", json=["title=someone"])
requests.get(root + "/", headers=JSON)
requests.get(root + "/+status", headers=JSON)
