"""Nodes of a map never cover each other, and callers are left of what they call where there is no cycle."""

from hypothesis import given
from hypothesis import strategies as st

from collector.ui.map.layout import NODE_HEIGHT, NODE_WIDTH, lay_out

NAMES = st.sampled_from([f"service-{number}" for number in range(20)])


@given(st.lists(st.tuples(NAMES, NAMES), max_size=60))
def test_nodes_lie_apart_and_inside(edges: list[tuple[str, str]]) -> None:
    layout = lay_out(edges)
    places = list(layout.places.values())
    assert len(places) == len({name for edge in edges for name in edge})
    assert len(layout.curves) == len(edges)
    for number, place in enumerate(places):
        assert 0 <= place.x <= layout.width - NODE_WIDTH
        assert 0 <= place.y <= layout.height - NODE_HEIGHT
        for other in places[:number]:
            assert abs(place.x - other.x) >= NODE_WIDTH or abs(place.y - other.y) >= NODE_HEIGHT


def test_callers_are_left_of_what_they_call() -> None:
    layout = lay_out([("outside", "shop"), ("shop", "orders"), ("orders", "pay"), ("shop", "pay")])
    assert [layout.places[name].x for name in ("outside", "shop", "orders", "pay")] == sorted(
        place.x for place in layout.places.values()
    )


def test_nothing_has_no_size() -> None:
    assert lay_out([]).width == 0
