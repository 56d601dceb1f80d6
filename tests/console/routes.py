"""Runs the commands of docs/reference/routes on the seeded collector, and writes the pages: `python -m
tests.console.routes`."""

import os
import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote

import httpx

from scripts.reference.routes import Answer, find_value, format_pages, is_up_to_date, list_operations, shorten
from tests.console.seeded import SeededCollector, open_seeded

# Of places in paths, what the seeded collector has; others come from answers.
NAMES: Final = {
    "NODE": "node-1",
    "SERVICE": quote("shop/users:8080", safe=""),
    "KIND": "enumeration",
}
# The same word is something else in routes of other subjects.
OTHERS: Final = {"alerts": {"NAME": "slack"}, "specs": {"NAME": "shop"}, "users": {"NAME": "ci"}}
# An edit gives its endpoint another id, as all routes of it do.
EDITED: Final = {"pin": "ep0001", "keep_host": "ep0102", "rename": "ep0100", "split": "ep0101"}
_SECRET: Final = re.compile(r"apidae_[\w-]{43}")
CURL_TIMED_OUT: Final = 28  # What ends a stream.


def run_commands(collector: SeededCollector, data_dir: str) -> dict[Path, str]:
    """The pages as they should be, with what the collector answered, but its secrets and its directory."""
    headers = {"Authorization": f"Bearer {collector.token}"}
    with httpx.Client() as browser:
        entered = browser.post(f"{collector.address}/login", data={"token": collector.token})
    assert entered.status_code == 303, entered.text
    document = httpx.get(f"{collector.address}/api/v1/openapi.json", headers=headers).json()
    variables = {
        "APIDAE_URL": collector.address,
        "APIDAE_TOKEN": collector.token,
        "ENDPOINT_ID": collector.endpoint_id,
        "ALERT_ID": collector.alert_id,
        "INCIDENT_ID": collector.incident_id,
        "CONSUMER_ID": quote(collector.consumer, safe=""),
        **NAMES,
    }
    answers = {}
    for one in list_operations(document):
        name = one.described["operationId"]
        if not one.example.is_run:
            continue
        others = {"KIND": "haproxy"} if one.path.endswith("/exports/{kind}") else OTHERS.get(one.tag, {})
        edited = {"ENDPOINT_ID": EDITED[name]} if name in EDITED else {}
        answer = run_command(one.command, {**variables, **others, **edited})
        variable, place = one.example.saves
        if variable:
            variables[variable] = find_value(answer.text, place)
        text = _SECRET.sub("apidae_...", answer.text.replace(data_dir, "/var/lib/apidae/collector"))
        answers[name] = Answer(status=answer.status, text=shorten(text))
    return format_pages(document, answers)


def run_command(command: str, variables: Mapping[str, str]) -> Answer:
    """What curl got. Raises AssertionError where it got nothing."""
    line = command + ' -w "\\n%{http_code}"'
    done = subprocess.run(
        ["bash", "-uc", line], env={**os.environ, **variables}, capture_output=True, check=False, timeout=60
    )
    text, _, status = done.stdout.decode("utf-8", "replace").rpartition("\n")
    assert done.returncode in (0, CURL_TIMED_OUT), f"{command}: {done.stderr.decode()}"
    return Answer(status=int(status), text=text)


def write_pages(pages: Mapping[Path, str]) -> None:
    """Those that are not as they should be; values alone change no page."""
    for path, text in pages.items():
        path.parent.mkdir(exist_ok=True)
        if not path.exists() or not is_up_to_date(path.read_text(), text):
            path.write_text(text)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory, open_seeded(Path(directory)) as seeded:
        write_pages(run_commands(seeded, directory))
