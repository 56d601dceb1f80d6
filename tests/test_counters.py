"""Nothing is counted that nobody reads: kernel counters, counters of stages, and whatever else is set.

A counter that helps nobody is deleted; one that tells of a loss becomes part of an account, a row of the coverage or a
metric. There are no exceptions.
"""

import ast
import json
from pathlib import Path
from textwrap import dedent

import pytest

from tests.product import ClassFacts, Product
from tests.product_uses import Uses

# The coverage report reads these by their names (sensor/coverage/limits.py).
LIMITS = Path(__file__).parent.parent / "sensor" / "coverage" / "limits.json"


@pytest.fixture(scope="module")
def uses() -> Uses:
    return Uses(Product())


def list_kernel_counters(product: Product) -> list[ClassFacts]:
    """Enums whose members are places in a map of counters."""
    return [facts for facts in product.classes() if facts.node.name.endswith("Counter") and is_enum(facts)]


def is_enum(facts: ClassFacts) -> bool:
    return any(ast.unparse(base) == "IntEnum" for base in facts.node.bases)


def test_every_kernel_counter_is_read(uses: Uses) -> None:
    counters = list_kernel_counters(uses.product)
    assert {facts.node.name for facts in counters} >= {"Counter", "SyscallCounter", "TlsCounter"}
    reported = {f"Counter.{limit['counter']}" for limit in json.loads(LIMITS.read_text())}
    unread = {member for facts in counters for member in uses.find_unread_members(facts)}
    assert unread - reported == set()


def test_every_attribute_that_is_set_is_read(uses: Uses) -> None:
    assert uses.find_unread_attributes() == []


def test_every_field_of_an_account_is_read(uses: Uses) -> None:
    assert uses.find_unread_account_fields() == []


def test_every_key_that_is_counted_is_read(uses: Uses) -> None:
    assert uses.find_unread_keys() == []


# Does the check see what it is there for?

OWN = """
    from dataclasses import dataclass, asdict
    from enum import IntEnum

    class Counter(IntEnum):
        READ = 0
        UNREAD = 1
        PUT = 2

    @dataclass
    class Counts:
        exported: int = 0
        lost: int = 0

    class Stage:
        def __init__(self) -> None:
            self.seen = self.dropped = self.tested = 0
            self.counts = Counts()
            self.other = Other()
            self.by_name = {"a": 0, "b": 0}

        def take(self) -> None:
            self.seen += 1
            self.dropped += 1
            self.tested += 1
            self.counts.exported += 1
            self.counts.lost += 1
            self.by_name["a"] += 1
            self.by_name["b"] += 1

        @property
        def held(self) -> int:
            return self.tested

        def tell(self) -> list[object]:
            return [self.seen, self.counts.exported, self.by_name["a"], Counter.READ, {Counter.PUT: 1}]

    class Other:
        def __init__(self) -> None:
            self.dropped = 0

    def main() -> None:
        stage = Stage()
        stage.take()
        print(stage.tell(), stage.other.dropped)
"""


def write_product(root: Path, text: str) -> Uses:
    (root / "sensor").mkdir()
    (root / "sensor" / "stage.py").write_text(dedent(text))
    return Uses(Product(root))


def test_what_nobody_reads_is_found(tmp_path: Path) -> None:
    """Of another class of that name, in a property that nobody asks, under a key, and in an enum."""
    uses = write_product(tmp_path, OWN)
    unread = ["sensor.stage.Counts.lost", "sensor.stage.Stage.dropped", "sensor.stage.Stage.tested"]
    assert uses.find_unread_attributes() == unread
    assert uses.find_unread_account_fields() == ["sensor.stage.Counts.lost"]
    assert uses.find_unread_keys() == ["sensor.stage.Stage.by_name['b']"]
    (counter,) = list_kernel_counters(uses.product)
    assert uses.find_unread_members(counter) == ["Counter.UNREAD", "Counter.PUT"]


def test_an_account_that_is_exported_as_a_whole_is_read(tmp_path: Path) -> None:
    uses = write_product(tmp_path, OWN.replace("self.counts.exported, ", "asdict(self.counts), "))
    assert uses.find_unread_account_fields() == []
