"""The settings in force by API and page: where each came from, and no secret."""

from pathlib import Path

import pytest

from collector.api.services import ApiSettings, Services
from collector.core.config import find_setup, load_settings
from collector.server.app import build_app
from common.settings import list_effective
from tests.collector.api.client import TestClient
from tests.collector.api.fakes import MemoryAlerts
from tests.collector.http_serving import EmptyReader
from tests.collector.states import create_state

CANARY = "canary-5f2c"
ENVIRONMENT = {
    "APIDAE_COLLECTOR_CLUSTER": "west",
    "APIDAE_COLLECTOR_STORE_URL": f"http://user:{CANARY}@store.example:8123/",
    "APIDAE_COLLECTOR_NOTIFIERS": f'[{{"kind": "slack", "url": "https://hooks.example/{CANARY}"}}, '
    f'{{"kind": "alertmanager", "url": "https://ann:{CANARY}@am.example/?key={CANARY}"}}]',
}


def open_client(**flags: object) -> TestClient:
    settings = load_settings(flags, environment=ENVIRONMENT)
    app = build_app(
        Services(
            store=EmptyReader(),  # type: ignore[arg-type]
            state=create_state(),
            alerts=MemoryAlerts(),
            settings=ApiSettings(token=None, version="0.1.0", htmx_path=Path("/nonexistent")),
            clock=lambda: 1_800_000_000.0,
            readiness=lambda: "",
            metrics=lambda _: (b"", "text/plain"),
            configuration=list_effective(settings),
            sensor_setup=find_setup(settings, 40_001),
        )
    )
    return TestClient(app, base_url="http://127.0.0.1:8080")


def test_every_setting_names_its_source_and_no_secret_is_shown() -> None:
    client = open_client(http_listen="127.0.0.1:9000")
    answer = client.get("/api/v1/config")
    settings = {one["name"]: (one["value"], one["source"]) for one in answer.json()["items"]}
    assert settings["http_listen"] == ("127.0.0.1:9000", "--http-listen")
    assert settings["cluster"] == ("west", "APIDAE_COLLECTOR_CLUSTER")
    assert settings["sensitivity"] == ("normal", "the default")
    assert settings["store_url"] == ("(set)", "APIDAE_COLLECTOR_STORE_URL")
    page = client.get("/settings")
    assert page.status_code == 200 and "APIDAE_COLLECTOR_CLUSTER" in page.text and "am.example" in page.text
    assert CANARY not in answer.text + page.text


def test_what_each_retention_costs_is_shown() -> None:
    stored = open_client().get("/settings").text.partition("What is stored")[2].partition("</table>")[0]
    names = ("minute_hours", "hour_days", "alert_days", "audit_days")
    assert [name for name in names if f"retention.{name}" not in stored] == []


@pytest.mark.parametrize(
    ("flags", "commands"),
    [
        ({"no_auth": True}, ["sudo apidae sensor --collector 127.0.0.1:40001"]),
        (
            {"data_dir": "/data"},
            ["sudo apidae sensor --collector 127.0.0.1:40001 --token-file /data/sensor.token"],
        ),
        (
            {"grpc_listen": "0.0.0.0:7443"},
            [
                "sudo -u apidae apidae enrollment create --node NODE",
                "sudo apidae enroll --collector 10.0.0.1:40001 --node NODE",
                "sudo apidae sensor --collector 10.0.0.1:40001 --node NODE",
            ],
        ),
    ],
)
def test_the_next_sensor_starts_with_commands_of_this_installation(
    flags: dict[str, object], commands: list[str]
) -> None:
    setup = find_setup(load_settings(flags, environment={}), 40_001)
    assert [command for _, command in setup.list_commands("10.0.0.1")] == commands


def test_an_empty_list_of_sensors_says_the_next_command() -> None:
    text = open_client(no_auth=True).get("/sensors").text
    assert "sudo apidae sensor --collector 127.0.0.1:40001</code>" in text
