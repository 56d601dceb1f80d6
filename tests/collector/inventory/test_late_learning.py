"""A parameter that is learned late changes no total: whenever rows leave, and whatever is learned between, all calls
and bytes are there, and endpoints have in the end what they would have had, had all been known from the start.

Through the sensor's own bytes and the collector's grouping (tests/accuracy).
"""

import random
from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.core.rows import Route
from collector.inventory.naming import WORD
from collector.inventory.templates.catalogue import map_endpoints
from collector.inventory.templates.path_trie import RouteEvidence
from tests.accuracy.node import Node

BYTES = 200  # Of each answer.
LITERALS = ("/v1/users", "/v1/users/me", "/v1/orders/export", "/v1/users/me/orders")
LITERAL_CALLS = 61
LETTERS = "bcdfghjklmnpqrstvwxz"


class Collected:
    """Totals by route, from row batches alone."""

    def __init__(self) -> None:
        self.routes: dict[int, Route] = {}
        self.calls: Counter[int] = Counter()
        self.served: Counter[int] = Counter()
        self.response_bytes = 0

    def take(self, node: Node) -> None:
        """What left the node until now."""
        for batch in node.flush():
            self.routes |= {route.route_id: route for route in batch.routes}
            self.response_bytes += int(batch.response_bytes.sum())
            for route, calls, status in zip(batch.route_id, batch.calls, batch.status_code, strict=True):
                self.calls[int(route)] += int(calls)
                self.served[int(route)] += int(calls) * (200 <= int(status) < 300)

    def map(self, revealed: Mapping[int, str]) -> dict[int, str]:
        """Each route's template now."""
        evidence = [
            RouteEvidence(route=route, calls=self.calls[number], served_calls=self.served[number])
            for number, route in self.routes.items()
        ]
        return {number: endpoint.template for number, endpoint in map_endpoints(evidence, revealed).items()}

    def reveal(self, node: Node) -> Mapping[int, str]:
        """The words that the node may tell now."""
        words = {step.hash for route in self.routes.values() for step in route.segments if step.kind == WORD}
        return node.templater.apply_reveal(sorted(words))


def write_value(kind: str, number: int) -> str:
    match kind:
        case "integer":
            return str(1_000 + 7 * number)
        case "code":
            return f"{LETTERS[number % 20]}Q{LETTERS[number // 20]}{number:03}"
    return f"zor{LETTERS[number % 20]}u{LETTERS[number // 20]}a"  # A word that means nothing.


@pytest.mark.parametrize("kind", ["integer", "code", "word"])
@settings(max_examples=12, deadline=None)
@given(
    values=st.integers(20, 180),
    cuts=st.lists(st.integers(1, 400), max_size=4),
    source=st.randoms(use_true_random=False),
)
def test_totals_stay(kind: str, values: int, cuts: list[int], source: random.Random) -> None:
    paths = [f"/v1/users/{write_value(kind, number)}{'/orders' * (number % 2)}" for number in range(values)]
    paths += [path for path in LITERALS for _ in range(LITERAL_CALLS)]
    source.shuffle(paths)
    node, first, second = Node("shop"), Collected(), Collected()
    for number, path in enumerate(paths):
        if number in cuts:
            first.take(node)
            first.reveal(node)
            assert (first.calls.total(), first.response_bytes) == (number, BYTES * number)
            assert set(first.map({})) == set(first.routes)
        see(node, path, number)
    first.take(node)
    for number, path in enumerate(paths):  # All of it is known by now.
        see(node, path, number)
    second.take(node)
    assert first.calls.total() == second.calls.total() == len(paths)
    assert first.response_bytes == second.response_bytes == BYTES * len(paths)
    together = Collected()
    together.routes = first.routes | second.routes
    together.calls, together.served = first.calls + second.calls, first.served + second.served
    templates = together.map(together.reveal(node))
    late, known = (sum_by(templates, one.calls) for one in (first, second))
    assert late == known
    assert late["/v1/orders/export"] == late["/v1/users"] == LITERAL_CALLS
    assert any(template.startswith("/v1/users/{") for template in late)


def see(node: Node, path: str, number: int) -> None:
    """One call of one of 50 clients; rows wait for `take`."""
    for _ in node.see(f"GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n".encode(), 200, number % 50):
        raise AssertionError("rows left by themselves")


def sum_by(templates: Mapping[int, str], calls: Counter[int]) -> Counter[str]:
    found: Counter[str] = Counter()
    for route, count in calls.items():
        found[templates[route]] += count
    return found
