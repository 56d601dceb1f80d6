"""What odd values of fields that are otherwise passed over teach: ordinary ones are learnt, those of attacks never."""

from tests.sensor.offload.conftest import Sensor
from tests.sensor.offload.test_matcher import make, teach
from tests.sensor.records import change_fields


def test_of_an_attack_each_head_comes_up_and_an_odd_value_that_is_none_is_learnt(sensor: Sensor) -> None:
    plain, odd = (make("/v1/orders/1717", f"User-Agent: {value}") for value in ("curl/8.5.0", "Jamie's/1.0"))
    teach(sensor, plain)
    for payload in (7, 7, 7, 0):
        assert sensor.kernel.take(odd) == "head"
        (exchange,) = sensor.kernel.exchanges
        sensor.matcher.install_call(exchange, change_fields(sensor.describe(odd), payload=payload))
        sensor.kernel.exchanges.clear()
        sensor.flush()
    assert [sensor.take(call) for call in (odd, plain)] == ["record", "record"]
