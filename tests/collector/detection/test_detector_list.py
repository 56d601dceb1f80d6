"""Every detector of the product is in the engine's list, names what it reports, and has all of its state saved."""

import importlib
import pkgutil
from collections.abc import Iterator

import numpy as np
import pytest

import collector.detection
from collector.alerting.alert import AlertKind
from collector.detection.engine import Engine
from collector.detection.framework.detector import Detector
from collector.detection.framework.slots import SlotTable
from collector.detection.framework.state import DetectorState, StateError, column, number, record

# What other parts report: about the product itself, changes, and risk.
REPORTED_ELSEWHERE = {
    *(AlertKind.NEW_CONSUMER, AlertKind.NEW_DATA_CLASS, AlertKind.NEW_ENDPOINT, AlertKind.NEW_THIRD_PARTY),
    *(AlertKind.MISSING_AUTHENTICATION, AlertKind.RISK_SCORE, AlertKind.UNAUTHENTICATED_SENSITIVE_DATA),
    *(AlertKind.AUTHORITY_CERTIFICATE, AlertKind.COLLECTOR_CERTIFICATE, AlertKind.SENSOR_CERTIFICATE),
    *(AlertKind.SENSOR_CLAIMS, AlertKind.SENSOR_LAG, AlertKind.SENSOR_LOSS, AlertKind.SENSOR_QUOTA),
    *(AlertKind.SENSOR_SILENT, AlertKind.DISK_FULL, AlertKind.LOG_DAMAGED, AlertKind.STORE_BEHIND),
    *(AlertKind.CLOCK_WRONG, AlertKind.TABLE_DAMAGED, AlertKind.LIMIT_REACHED, AlertKind.DETECTORS_UNSAVED),
    *(AlertKind.MCP_TOOL_CHANGED, AlertKind.MCP_TOOL_SHADOWED, AlertKind.NEW_MCP_SERVER, AlertKind.NEW_MCP_TOOL),
    *(AlertKind.COVERAGE_BELOW_TARGET, AlertKind.MODEL_SPEND),
}


def list_classes(base: type[Detector]) -> Iterator[type[Detector]]:
    """Those that no other class is derived from."""
    for module in pkgutil.walk_packages(collector.detection.__path__, "collector.detection."):
        importlib.import_module(module.name)
    own = base.__subclasses__()
    for one in own:
        yield from list_classes(one)
    if not own or hasattr(base, "name"):
        yield base


def list_missing(detectors: dict[str, Detector]) -> list[str]:
    """Detectors that are in no list."""
    listed = {type(one) for one in detectors.values()}
    return sorted(one.__name__ for one in list_classes(Detector) if one not in listed and hasattr(one, "name"))


def list_unsaved(state: DetectorState) -> list[str]:
    """States that are held by another one and not among its parts."""
    saved = {id(part) for part in state.walk()}
    found = []
    for part in state.walk():
        for name, value in vars(part).items():
            held = value.values() if isinstance(value, dict) else [value]
            unsaved = any(isinstance(one, DetectorState) and id(one) not in saved for one in held)
            found += [f"{type(part).__name__}.{name}"] if unsaved else []
    return found


def test_every_detector_is_in_the_list_of_the_engine() -> None:
    assert list_missing(Engine().detectors) == []


def test_every_kind_of_alert_has_a_detector_or_is_reported_elsewhere() -> None:
    kinds = {kind for detector in Engine().detectors.values() for kind in detector.kinds}
    assert kinds == set(AlertKind) - REPORTED_ELSEWHERE


def test_every_state_of_every_detector_is_saved() -> None:
    assert list_unsaved(Engine()) == []


def test_a_forgotten_place_is_found() -> None:
    class ForgottenDetector(Detector):
        """In no list, with a table that it does not name as a part."""

        name = "forgotten"

        def __init__(self) -> None:
            super().__init__()
            self._table = SlotTable(4)

    assert list_missing(Engine().detectors) == ["ForgottenDetector"]
    assert list_unsaved(ForgottenDetector()) == ["ForgottenDetector._table"]
    del ForgottenDetector


class Levels(DetectorState):
    level = column(np.float32, 2, fill=3)
    hour = number(5)
    names = record(dict[int, str])


def test_columns_grow_forget_save_and_load() -> None:
    table, levels = SlotTable(8, 2), Levels()
    table.follow(levels)
    table.touch(np.arange(1, 5, dtype=np.uint64), 1)
    assert levels.level.shape == (2, table.capacity) and (levels.level == 3).all()
    levels.level[:, 1], levels.hour, levels.names[1] = 7, 9, "one"
    again = Levels()
    again.grow(table.capacity)
    again.load(levels.dump("levels."), "levels.")
    assert np.array_equal(again.level, levels.level) and again.hour == 9 and again.names == {1: "one"}
    table.release(np.array([1]))
    assert (levels.level == 3).all() and (again.level[:, 1] == 7).all()


@pytest.mark.parametrize(
    ("name", "array", "sentence"),
    [
        ("level", np.zeros((2, 5), np.float32), "level is float32[2, 5]; expected float32[2, 4]"),
        ("level", np.zeros((2, 4), np.float64), "level is float64[2, 4]; expected float32[2, 4]"),
        ("hour", np.zeros(2, np.int64), "hour is int64[2]; expected int64[1]"),
        ("names", np.array([1], np.uint8), "names cannot be decoded: Expected `object`, got `int`"),
        ("names", None, "names is missing"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_in_one_sentence(
    name: str, array: np.ndarray | None, sentence: str
) -> None:
    levels = Levels()
    levels.grow(4)
    saved = {key: value for key, value in levels.dump().items() if key != name}
    if array is not None:
        saved[name] = array
    with pytest.raises(StateError) as caught:
        levels.load(saved)
    assert str(caught.value) == sentence
