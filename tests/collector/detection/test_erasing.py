"""An erased consumer is in no table of the detectors' state, whoever keeps it."""

from pathlib import Path

from collector.detection.checkpoint import remove_old_states
from tests.collector.detection.scene import EngineScene
from tests.collector.detection.states import read_columns
from tests.collector.detection.stream import START, Row, make_batch

GUESSER, OTHER = "45.1.1.1", "45.1.1.2"


def test_an_address_that_guessed_is_erased_from_the_detectors_own_table_too() -> None:
    scene = EngineScene()
    guesses = [Row(route=9, method="POST", address=one, status=401, calls=3) for one in (GUESSER, OTHER)]
    guesses.append(Row(route=9, method="POST", address="81.1.1.1", passwords=1))
    scene.engine.feed(make_batch(guesses), START + 11)
    assert GUESSER.encode() in read_columns(scene.save())
    assert scene.engine.erase(f"address:{GUESSER}") >= 3  # Consumer, pair, and source of guesses.
    state = read_columns(scene.save())
    assert GUESSER.encode() not in state and OTHER.encode() in state
    assert scene.engine.erase(f"address:{GUESSER}") == 0


def test_states_that_were_moved_aside_go_where_they_name_the_consumer_or_cannot_be_read(tmp_path: Path) -> None:
    scene = EngineScene()
    other = scene.save()
    scene.engine.feed(make_batch([Row(route=9, method="POST", address=GUESSER, calls=3)]), START + 11)
    named = scene.save()
    for name, content in (("v10", named), ("before-1-2", other), ("damaged", named[:-40])):
        (tmp_path / f"state.{name}").write_bytes(content)
    assert remove_old_states(tmp_path / "state", f"address:{GUESSER}") == 2
    assert [path.name for path in tmp_path.iterdir()] == ["state.before-1-2"]
