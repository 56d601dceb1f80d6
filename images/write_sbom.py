"""What is in an image, as an SPDX 2.3 document: `write_sbom.py NAME FILE`, run by the image's own Python.

Lists the packages of Debian (/var/lib/dpkg/status) and those of Python (of the running environment). The same image
gives the same file: its time is SOURCE_DATE_EPOCH, its name space the hash of what it lists.
"""

import hashlib
import json
import os
import re
import sys
from datetime import UTC, datetime
from importlib.metadata import distributions, version
from pathlib import Path
from urllib.parse import quote

NAMESPACE = "https://apidae.invalid/spdx"  # Nothing is published there: a document's name only has to be its own.
NONE = "NOASSERTION"


def describe(identifier: str, name: str, number: str, purl: str, **more: str) -> dict:
    """A package of the document."""
    return {
        "SPDXID": "SPDXRef-" + re.sub(r"[^A-Za-z0-9.-]+", "-", identifier),
        "name": name,
        "versionInfo": number,
        "downloadLocation": NONE,
        "filesAnalyzed": False,
        "licenseConcluded": NONE,
        "licenseDeclared": NONE,
        "copyrightText": NONE,
        "externalRefs": [
            {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl},
        ],
        **more,
    }


def list_debian(status: str) -> list[dict]:
    """Of the text of dpkg's status file."""
    packages = []
    for paragraph in status.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and line[0] != " ")
        if "installed" in fields.get("Status", "").split():
            name, number, architecture = fields["Package"], fields["Version"], fields["Architecture"]
            purl = f"pkg:deb/debian/{quote(name, safe='')}@{quote(number, safe='')}?arch={architecture}"
            packages.append(describe(f"deb-{name}", name, number, purl, supplier="Organization: Debian"))
    return packages


def list_python() -> list[dict]:
    """Of the environment that runs this; what Debian brings of Python is in its list."""
    packages = []
    for found in distributions(path=[path for path in sys.path if path.startswith(sys.prefix)]):
        name, number = found.metadata["Name"], found.version
        purl = f"pkg:pypi/{re.sub(r'[-_.]+', '-', name).lower()}@{quote(number, safe='')}"
        licence = found.metadata.get("License-Expression") or NONE
        packages.append(describe(f"pypi-{name}", name, number, purl, licenseDeclared=licence, supplier=NONE))
    return packages


def build(name: str, status: str, seconds: int) -> dict:
    """The document."""
    inside = sorted([*list_debian(status), *list_python()], key=lambda package: package["SPDXID"])
    number = version("apidae")
    image = describe(
        f"image-{name}",
        name,
        number,
        f"pkg:oci/{name}@{quote(number, safe='')}",
        primaryPackagePurpose="CONTAINER",
        licenseDeclared="Apache-2.0",
        supplier="Organization: Apidae",
    )
    relations = [("SPDXRef-DOCUMENT", "DESCRIBES", image)]
    relations += [(image["SPDXID"], "CONTAINS", package) for package in inside]
    packages = [image, *inside]
    digest = hashlib.sha256(json.dumps(packages, sort_keys=True).encode()).hexdigest()
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"{name}-{number}",
        "documentNamespace": f"{NAMESPACE}/{name}-{number}-{digest}",
        "creationInfo": {
            "created": datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "creators": ["Organization: Apidae", "Tool: apidae-images-write_sbom"],
        },
        "packages": packages,
        "relationships": [
            {"spdxElementId": source, "relationshipType": kind, "relatedSpdxElement": target["SPDXID"]}
            for source, kind, target in relations
        ],
    }


def main() -> None:
    """Writes the file."""
    name, target = sys.argv[1:]
    seconds = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    document = build(name, Path("/var/lib/dpkg/status").read_text(), seconds)
    Path(target).write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
