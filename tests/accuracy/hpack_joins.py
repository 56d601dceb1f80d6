"""Task `hpack_joins`: stories joined at every block; what is known of the blocks after, and whether any of it is wrong.

Writes a line a story: how many joins and fields, how many fields were wrong, how many placeholders changed their
meaning, and the share of fields known in the blocks right after the join and from the 21st on (`null` where none is).
"""

import json
from collections import Counter
from pathlib import Path

from sensor.http.hpack import HpackDecoder, HuffmanStrings, Placeholder
from tests.accuracy.hpack import read_stories

LATE_AFTER_BLOCKS = 20
BLOCKS_JUDGED = 60  # After each join; what follows only gets better.

Pair = tuple[bytes, bytes]


def judge_join(blocks: list[bytes], truth: list[list[Pair]], cut: int, strings: HuffmanStrings) -> Counter[str]:
    """Decodes from block `cut` on."""
    decoder = HpackDecoder(strings, is_complete=False)
    meanings: dict[Placeholder, bytes] = {}
    counts = Counter(joins=1)
    for number, (block, pairs) in enumerate(zip(blocks[cut:], truth[cut:], strict=True)):
        decoded = decoder.decode(block)
        if decoded.error or len(decoded.fields) != len(pairs):
            counts["wrong"] += max(len(pairs), 1)
            continue
        late = "late" if number >= LATE_AFTER_BLOCKS else "early"
        counts[late] += len(pairs)
        for field, pair in zip(decoded.fields, pairs, strict=True):
            if field == pair:
                counts[late + "_known"] += 1
                continue
            for text, expected in zip(field, pair, strict=True):
                if isinstance(text, Placeholder):
                    counts["moved"] += meanings.setdefault(text, expected) != expected
                else:
                    counts["wrong"] += text != expected
    return counts


def _tell(counts: Counter[str]) -> dict[str, object]:
    told: dict[str, object] = {name: counts[name] for name in ("joins", "early", "late", "wrong", "moved")}
    for late in ("early", "late"):
        told[f"{late}_known_ratio"] = round(counts[f"{late}_known"] / counts[late], 4) if counts[late] else None
    return told


def run(source: Path, target: Path) -> None:
    """Writes a line for each story, and one for all of them."""
    strings, total = HuffmanStrings(), Counter[str]()
    with target.open("w", encoding="utf-8", newline="\n") as output:
        for story in read_stories(source):
            truth = [
                [(name.encode(), value.encode()) for pair in case["headers"] for name, value in pair.items()]
                for case in story["cases"]
            ]
            blocks = [bytes.fromhex(case["wire"]) for case in story["cases"]]
            counts: Counter[str] = Counter()
            for cut in range(1, len(blocks)):
                end = cut + BLOCKS_JUDGED
                counts += judge_join(blocks[:end], truth[:end], cut, strings)
            total += counts
            output.write(json.dumps({"story": story.get("story", ""), **_tell(counts)}) + "\n")
        output.write(json.dumps({"story": "all", **_tell(total)}) + "\n")
