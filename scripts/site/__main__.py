"""Builds the documentation as a site of plain files, which need no server and load nothing from elsewhere.

    python -m scripts.site [DIRECTORY]

Each version is a folder of DIRECTORY (.run/site), beside those that are there: keep the directory, and readers choose
the version on each page. A link, anchor or page of the navigation that leads nowhere fails the build.
"""

import json
import logging
import shutil
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Final

from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = ROOT / "docs"
DIRECTORY: Final = ROOT / ".run" / "site"
_INDEX: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Apidae</title>
<meta http-equiv="refresh" content="0; url={0}/index.html"></head>
<body><a href="{0}/index.html">Documentation of Apidae {0}</a></body></html>
"""


def build_site(directory: Path, name: str, docs: Path = DOCS) -> Path:
    """The folder of the version `name`, built anew. Raises mkdocs' Abort, after a warning of each fault."""
    folder = directory / name
    shutil.rmtree(folder, ignore_errors=True)
    build(load_config(str(ROOT / "mkdocs.yml"), docs_dir=str(docs), site_dir=str(folder)))
    write_versions(directory)
    return folder


def write_versions(directory: Path) -> None:
    """The list that pages offer, newest first, and the way to the newest."""
    names = [path.parent.name for path in directory.glob("*/index.html")]
    names.sort(key=lambda name: [int(part) if part.isdigit() else -1 for part in name.split(".")], reverse=True)
    entries = [{"version": name, "title": name, "aliases": []} for name in names]
    entries[0]["aliases"] = ["latest"]
    (directory / "versions.json").write_text(json.dumps(entries, indent=2) + "\n")
    (directory / "index.html").write_text(_INDEX.format(names[0]))


def main() -> int:
    """Exit code of the command."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else DIRECTORY
    try:
        print(build_site(directory, version("apidae")) / "index.html")
    except Abort as error:
        print(f"scripts.site: {error}; the lines above name each page", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
