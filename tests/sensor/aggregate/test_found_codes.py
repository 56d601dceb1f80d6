"""What a sensor finds in calls travels whatever its place: from the record to the row that a collector takes."""

import pytest

from sensor.core.calls import BodyFacts, BodyFlag, CallRecord
from sensor.sensitive.kinds import PLACE_SHIFT, DataPlace
from tests.accuracy.node import Node
from tests.sensor.records import SECOND_NS, START_NS, make_record

LAST_KIND = 63


def record_codes(node: Node, consumer: int, codes: tuple[int, ...]) -> None:
    record = make_record(time_unix_ns=START_NS, principal=consumer, body=BodyFacts(0, codes, BodyFlag.NOTED))
    assert isinstance(record, CallRecord)
    node._aggregator.add(record)


@pytest.mark.parametrize("place", DataPlace)
def test_codes_of_every_place_reach_the_collector(place: DataPlace) -> None:
    node = Node("api")
    first, last = place << PLACE_SHIFT | 1, place << PLACE_SHIFT | LAST_KIND
    # Rows of one window that leave at two times, and are merged with those of other callers.
    record_codes(node, 1, (first,))
    record_codes(node, 2, ())
    batches = list(node.poll(START_NS + 2 * SECOND_NS))
    record_codes(node, 1, (first, last))
    record_codes(node, 3, (last,))
    batches += node.flush(START_NS + 30 * SECOND_NS)
    counts: dict[int, int] = {}
    for batch in batches:
        for code, count in zip(batch.data.values.tolist(), batch.data.counts.tolist(), strict=True):
            counts[code] = counts.get(code, 0) + count
    assert counts == {first: 2, last: 2}
