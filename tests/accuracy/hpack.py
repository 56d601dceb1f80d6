"""Task `hpack`: stories of header blocks in, their headers out; one decoder a story.

A story is `{"cases": [{"wire": hex, ...}, ...]}`, in the order of `cases`. A block that cannot be read has no headers.
A file may be compressed with xz.
"""

import json
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sensor.http.hpack import HpackDecoder, HuffmanStrings, Placeholder, Text


def read_stories(source: Path) -> Iterator[dict[str, Any]]:
    """The stories of one JSONL file."""
    with (lzma.open if source.suffix == ".xz" else open)(source, "rt", encoding="utf-8", newline="\n") as file:
        for line in file:
            if line.strip():
                yield json.loads(line)


def read_story(story: dict[str, Any], strings: HuffmanStrings) -> dict[str, Any]:
    """The headers of each block."""
    decoder = HpackDecoder(strings, is_complete=True)
    blocks = [decoder.decode(bytes.fromhex(case["wire"])) for case in story["cases"]]
    return {"cases": [{"headers": [[_write(name), _write(value)] for name, value in block.fields]} for block in blocks]}


def _write(text: Text) -> str:
    if isinstance(text, Placeholder):
        return "<unknown>"
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        return text.decode("latin-1")


def run(source: Path, target: Path) -> None:
    """Writes a line for each story."""
    strings = HuffmanStrings()
    with target.open("w", encoding="utf-8", newline="\n") as output:
        for story in read_stories(source):
            output.write(json.dumps(read_story(story, strings)) + "\n")
