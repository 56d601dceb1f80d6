"""Uploads packages to pypiserver as twine does, and installs them as pip does."""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import requests

root = sys.argv[1]
names = [
    f"sample-{word}" for word in ("alpha", "beta", "gamma", "delta", "omega", "kappa", "sigma", "theta", "zeta", "iota")
]
for name in names:
    module = name.replace("-", "_")
    wheel = Path(f"{module}-1.0-py3-none-any.whl").absolute()
    info = f"{module}-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"{module}.py", "ANSWER = 42\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: drivers\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", f"{module}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    content = wheel.read_bytes()
    wheel.unlink()
    fields = {
        ":action": "file_upload",
        "protocol_version": "1",
        "name": name,
        "version": "1.0",
        "filetype": "bdist_wheel",
        "pyversion": "py3",
        "metadata_version": "2.1",
        "sha256_digest": hashlib.sha256(content).hexdigest(),
    }
    requests.post(root + "/", data=fields, files={"content": (wheel.name, content)}).raise_for_status()
for _ in range(3):
    requests.get(root + "/")
    requests.get(root + "/simple/")
    requests.get(root + "/packages/")
    requests.get(root + "/health")
for name in names:
    requests.get(f"{root}/{name}/json")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--index-url",
            f"{root}/simple/",
            "--no-deps",
            "--target",
            "installed",
            "-q",
            name,
        ],
        check=True,
    )
