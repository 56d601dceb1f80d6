"""What is in an image, as a CycloneDX 1.6 document: `write_sbom.py NAME FILE`, run by the image's own Python.

Lists the packages of Debian (/var/lib/dpkg/status) and of Python (those of the running environment). No time and no
serial number: the same image gives the same file.
"""

import json
import sys
from importlib.metadata import distributions, version
from pathlib import Path
from urllib.parse import quote


def list_debian(status: str) -> list[dict]:
    """Components of the text of dpkg's status file."""
    components = []
    for paragraph in status.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and line[0] != " ")
        if "installed" not in fields.get("Status", "").split():
            continue
        name, number, architecture = fields["Package"], fields["Version"], fields["Architecture"]
        purl = f"pkg:deb/debian/{quote(name, safe='')}@{quote(number, safe='')}?arch={architecture}"
        components.append({"type": "library", "name": name, "version": number, "purl": purl, "bom-ref": purl})
    return components


def list_python() -> list[dict]:
    """Components of the environment that runs this; what Debian brings of Python is in its list."""
    components = []
    for found in distributions(path=[path for path in sys.path if path.startswith(sys.prefix)]):
        name, number = found.metadata["Name"], found.version
        purl = f"pkg:pypi/{name.lower().replace('_', '-')}@{quote(number, safe='')}"
        component = {"type": "library", "name": name, "version": number, "purl": purl, "bom-ref": purl}
        licence = found.metadata.get("License-Expression")
        components.append(component | ({"licenses": [{"expression": licence}]} if licence else {}))
    return components


def build(name: str, status: str) -> dict:
    """The document."""
    components = [*list_debian(status), *list_python()]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": name, "version": version("apidae"), "bom-ref": name}},
        "components": sorted(components, key=lambda component: component["purl"]),
    }


def main() -> None:
    """Writes the file."""
    name, target = sys.argv[1:]
    document = build(name, Path("/var/lib/dpkg/status").read_text())
    Path(target).write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
