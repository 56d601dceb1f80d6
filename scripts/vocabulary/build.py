"""Makes sensor/routes/words/api.txt: the words that a path segment may be made of to leave a node in clear.

    python -m scripts.vocabulary.build DIRECTORY > sensor/routes/words/api.txt
    python -m scripts.vocabulary.build DIRECTORY --english > sensor/routes/words/english.txt

DIRECTORY holds the unpacked wheels of `botocore`, `google-api-python-client`, `kubernetes` and `stripe` (all
Apache-2.0 or MIT) and `dictionary.txt`, a list of English words (Debian's wamerican-small, SCOWL). A word is taken
when it occurs in the paths or operation names of two services, or of one and in the dictionary, or stands in
extra.txt. Two services: a word of one vendor is a product's name. `--english` prints the words of the dictionary, and
those that programs are made of (names in the standard library of Python, media types), that are neither API words nor
names nor in private.txt, without their inflections and without Roman numerals.
"""

import gzip
import importlib
import json
import mimetypes
import re
import sys
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any

from sensor.routes.vocabulary import is_inflected, load_vocabulary

_PARTS = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+")
_PLACEHOLDER = re.compile(r"\{[^}]*\}")
_MINIMUM_SERVICES = 2
_ROMAN = re.compile(r"m{0,3}(?:cm|cd|d?c{0,3})(?:xc|xl|l?x{0,3})(?:ix|iv|v?i{0,3})")
_SPEAKING = frozenset(("antigravity", "idlelib", "this", "turtledemo"))  # They open windows, or print.
_SHORT = 3  # Characters; so short a word may be anybody's initials.


class Words:
    """Words, each with the services it was met in."""

    def __init__(self) -> None:
        self.services: dict[str, set[str]] = defaultdict(set)

    def add(self, service: str, text: str) -> None:
        for part in _PARTS.findall(_PLACEHOLDER.sub("", text)):
            self.services[part.lower()].add(service)


def read_aws(root: Path, words: Words) -> None:
    for file in sorted(root.glob("botocore/data/*/*/service-2.json.gz")):
        model = json.loads(gzip.decompress(file.read_bytes()))
        for name, operation in model["operations"].items():
            words.add(f"aws:{file.parts[-3]}", name)
            words.add(f"aws:{file.parts[-3]}", operation.get("http", {}).get("requestUri", ""))


def read_google(root: Path, words: Words) -> None:
    def walk(service: str, resource: dict[str, Any]) -> None:
        for name, child in resource.get("resources", {}).items():
            words.add(service, name)
            walk(service, child)
        for name, method in resource.get("methods", {}).items():
            words.add(service, name)
            words.add(service, method.get("flatPath") or method["path"])

    for file in sorted(root.glob("googleapiclient/discovery_cache/documents/*.json")):
        document = json.loads(file.read_text())
        service = f"google:{file.name.split('.')[0]}"
        walk(service, document)
        for name in document.get("schemas", {}):
            words.add(service, name)


def read_paths(root: Path, pattern: str, literal: str, words: Words) -> None:
    for file in sorted(root.glob(pattern)):
        for path in re.findall(literal, file.read_text()):
            words.add(file.name, path)


def list_program_words() -> set[str]:
    """Words of public names in at least two modules of Python's standard library, and of media types: `mkdir`, `noop`,
    `jpeg`."""
    words = Words()
    for module in sorted(sys.stdlib_module_names - _SPEAKING):
        with suppress(Exception):  # Modules of other systems.
            for name, member in vars(importlib.import_module(module)).items():
                names = (name, *dir(member)) if isinstance(member, type) else (name,)
                for one in names:  # Constants are made of abbreviations.
                    if not (name.startswith("_") or one.startswith("_") or one.isupper()):
                        words.add(module, one)
    shared = {word for word, modules in words.services.items() if len(modules) >= _MINIMUM_SERVICES}
    return shared.union(*(_PARTS.findall(text) for text in mimetypes.types_map.values()))


def list_english(dictionary: set[str]) -> list[str]:
    """The words of the dictionary that the other lists do not have, without those that are inflections of others."""
    vocabulary = load_vocabulary()
    own = {
        word
        for word in dictionary - _read_list("private.txt")
        if word.isascii() and len(word) > _SHORT and not _ROMAN.fullmatch(word)
        if not vocabulary.is_api_word(word) and not vocabulary.is_name(word)
    }
    return sorted(word for word in own if not is_inflected(word, frozenset(own - {word})))


def _read_list(name: str) -> set[str]:
    lines = Path(__file__).with_name(name).read_text().split("\n")
    return {word for line in lines if not line.startswith("#") for word in line.split()}


def main() -> None:
    root = Path(sys.argv[1])
    dictionary = {
        line for line in (root / "dictionary.txt").read_text().split("\n") if line.isalpha() and line.islower()
    }
    if "--english" in sys.argv:
        print("# Made by scripts/vocabulary/build.py: words of SCOWL and of programs, no API words. One a line.")
        print("\n".join(list_english(dictionary | list_program_words())))
        return
    words = Words()
    read_aws(root, words)
    read_google(root, words)
    read_paths(root, "kubernetes/client/api/*.py", r"'(/[^']*)'", words)
    read_paths(root, "stripe/**/*.py", r'"(/v[12]/[^"]*)"', words)
    taken = {
        word
        for word, services in words.services.items()
        if len(word) > 1 and (len(services) >= _MINIMUM_SERVICES or (len(word) > 2 and word in dictionary))
    }
    taken |= _read_list("extra.txt")
    print("# Made by scripts/vocabulary/build.py: words of REST paths and operation names. One a line, lower case.")
    print("\n".join(sorted(taken)))


if __name__ == "__main__":
    main()
