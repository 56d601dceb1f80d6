"""A class edge is taught only where Python's own rule depends on nothing but class and length."""

import string
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor.core.calls import Hop
from sensor.ebpf import hashes
from sensor.ebpf.abi import SegmentClass
from sensor.offload.installer import CLASSES, is_decided
from sensor.routes.segments import classify_segment
from sensor.routes.vocabulary import load_vocabulary
from tests.sensor.offload.conftest import SAMPLE_NS, Sensor
from tests.sensor.offload.test_matcher import make, teach

HEX = "0123456789abcdef"
SEGMENTS = st.one_of(
    st.from_regex(r"[0-9]{1,18}", fullmatch=True),
    st.text(HEX, min_size=8, max_size=250),
    st.text(HEX.upper(), min_size=8, max_size=250),
    st.from_regex(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", fullmatch=True),
    st.from_regex(r"[0-9A-F]{8}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{12}", fullmatch=True),
    st.text("0123456789ABCDEFGHJKMNPQRSTVWXYZ", min_size=26, max_size=26),
    st.text(string.ascii_letters + string.digits + "-_", min_size=20, max_size=60),
    # What earlier rules might take for something else.
    st.from_regex(r"(v12-?alpha|2024-01-01T1000|getUserV|[0-9A-Fa-f]{30})[0-9A-Fa-f-]{6,20}", fullmatch=True),
)


@given(SEGMENTS)
def test_a_class_decides_the_kind(text: str) -> None:
    decided = {one: kind for kind, classes in CLASSES.items() for one in classes}
    shape = hashes.find_shape(text.encode())
    kind = decided.get(SegmentClass(shape & 0xFF))
    if kind is None or len(text) > 200 or not is_decided(shape, 5, text.encode()):
        return
    found = classify_segment(text, load_vocabulary())
    assert (found.kind, found.value) == (kind, text)


@pytest.mark.parametrize(
    ("first", "second", "is_class"),
    [
        ("/v1/orders/1234", "/v1/orders/987654321", True),
        ("/v1/orders/12", "/v1/orders/13", False),
        ("/v1/a/b/12", "/v1/a/b/7", True),
        ("/files/0123456789abcdef", "/files/fedcba9876543210", True),
        ("/files/0123456789abcdef", "/files/fedcba98765432100", False),
        ("/files/0123456789ABCDEF0123456789", "/files/8123456789ABCDEF0123456789", False),
        ("/users/3f2504e0-4f89-11d3-9a0c-0305e82c3301", "/users/00000000-0000-4000-8000-000000000001", True),
        ("/users/3F2504E0-4F89-11D3-9A0C-0305E82C3301", "/users/3f2504e0-4f89-11d3-9a0c-0305e82c3301", False),
        ("/users/cus_8fj2Kd92ka7L", "/users/cus_8fj2Kd92ka7M", False),
        ("/users/cus_8fj2Kd92ka7Lxy55Qz", "/users/cus_0aB1cD2eF3gH4iJ5kL", True),
        ("/users/cus_8fj2Kd92ka7Lxy55Qz", "/users/cus_0ab1cd2ef3gh4ij5kl", False),
        ("/8fj2Kd92ka7Lxy55Qz7kQ3", "/0aB1cD2eF3gH4iJ5kL6mNo", False),
        ("/users/3f2504e0-4f89-11D3-9a0c-0305e82c3301", "/users/00000000-0000-4a00-8A00-000000000001", False),
        ("/users/a.b@example.com", "/users/b.c@example.com", False),
        ("/v1/orders/5.json", "/v1/orders/6.json", False),
        ("/v1/orders/2024-02-29", "/v1/orders/2024-03-01", False),
    ],
)
def test_which_values_are_known_by_their_class(sensor: Sensor, first: str, second: str, is_class: bool) -> None:
    for _ in range(3):
        sensor.take(make(first))
    assert (sensor.kernel.take(make(second)) == "record") is is_class


def test_values_of_one_shape_share_what_lies_below(sensor: Sensor) -> None:
    for day in (10, 11, 12):
        for _ in range(3):
            sensor.take(make(f"/v1/reports/2024-01-{day}/lines/1234"))
    (root,) = sensor.cache.all_roots()
    by_shape: dict[int, int] = defaultdict(int)
    for edge in root.edges:
        by_shape[edge.shape] += 1
    # v1, reports, three days, lines; and one for all numbers.
    assert by_shape == {SegmentClass.EXACT: 6, SegmentClass.DIGITS: 1}
    assert len(root.leaves) == 1


def test_a_word_past_the_bound_is_a_value_like_any_other(sensor: Sensor) -> None:
    letters = "bcdfghjklm"
    for word in (f"zor{a}u{b}axo" for a in letters for b in letters):
        teach(sensor, make(f"/v1/users/{word}"))
    assert sensor.figure("taught_routes") < 100
    assert sensor.figure("contradictions") == 0


def test_another_hop_contradicts(sensor: Sensor) -> None:
    teach(sensor, make())
    sensor.node.hop = Hop.PROXY
    assert sensor.take(make(time_ns=2 * SAMPLE_NS)) == "head"
    assert sensor.figure("contradictions") == 1
    assert sensor.take(make()) == "head"
    assert sensor.take(make()) == "record"
