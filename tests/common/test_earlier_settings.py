"""Settings of the version before: each exists still, or stops the start with a sentence that says what to use."""

import json
from pathlib import Path

import pytest

from collector.core import config as collector_config
from common.settings import ConfigError
from scripts.live.host import start_collector
from scripts.live.program import ProgramError
from sensor.core import config as sensor_config
from tests.e2e.earlier import unpack_earlier

# Where a name of an earlier version has another one, or a place in another setting, the sentence has it.
MEANINGS = {
    "is_reading_tls": "now read_tls, full for true and off for false",
    "is_enforcing": "now enforcement.enabled",
    "is_telling_probes": "now include_health_checks",
    "slack_url": 'now an entry of notifiers with kind = "slack"',
    "is_four_eyes": "now require_second_approval",
}


def test_every_setting_of_the_earlier_version_still_exists_or_says_what_to_use(tmp_path: Path) -> None:
    earlier = unpack_earlier(tmp_path)
    names = json.loads(
        earlier.run(
            "import json; from sensor.core.config import SensorSettings; "
            "from collector.core.config import CollectorSettings; "
            "print(json.dumps([[*SensorSettings.model_fields], [*CollectorSettings.model_fields]]))"
        )
    )
    sides = (
        ("sensor", sensor_config.SensorSettings, sensor_config.load_settings),
        ("collector", collector_config.CollectorSettings, collector_config.load_settings),
    )
    explained = {}
    for known, (side, model, load) in zip(names, sides, strict=True):
        for name in known:
            if name in model.model_fields:
                continue
            with pytest.raises(ConfigError) as refusal:
                load({}, environment={f"APIDAE_{side.upper()}_{name.upper()}": "1"})
            explained[name] = str(refusal.value)
    assert len(explained) > 60
    assert not [text for text in explained.values() if " was removed in 0.2: " not in text]
    assert {
        name: text.partition(" was removed in 0.2: ")[2] for name, text in explained.items() if name in MEANINGS
    } == (MEANINGS)


def test_a_setting_of_the_earlier_version_stops_the_start_with_its_new_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APIDAE_COLLECTOR_IS_FOUR_EYES", "true")
    with pytest.raises(ProgramError, match=r"IS_FOUR_EYES was removed in 0\.2: now require_second_approval"):
        start_collector(tmp_path / "data", tmp_path)
