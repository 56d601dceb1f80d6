"""An erased consumer is in no table of the detectors' state, whoever keeps it."""

from collector.anomaly.erasing import erase_from_engine
from tests.collector.anomaly.scene import EngineScene
from tests.collector.anomaly.stream import START, Row, make_batch

GUESSER, OTHER = "45.1.1.1", "45.1.1.2"


def test_an_address_that_guessed_is_erased_from_the_detectors_own_table_too() -> None:
    scene = EngineScene()
    guesses = [Row(route=9, method="POST", address=one, status=401, calls=3) for one in (GUESSER, OTHER)]
    scene.engine.feed(make_batch(guesses), START + 11)
    assert GUESSER.encode() in scene.save()
    scene.engine, count = erase_from_engine(scene.engine, f"address:{GUESSER}")
    assert count >= 3  # Consumer, pair, and source of guesses.
    state = scene.save()
    assert GUESSER.encode() not in state and OTHER.encode() in state
    assert erase_from_engine(scene.engine, f"address:{GUESSER}")[1] == 0
