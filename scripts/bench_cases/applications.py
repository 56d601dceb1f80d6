"""Real applications, started and called by their own clients, beside Apidae: what it says of them, and what is true.

    scripts/bench applications [--only NAME ..] [--keep DIRECTORY]

One JSON line an application, then one for all: calls made (by a packet capture) and reported, precision and recall of
templates, the share of calls with the right kind of authentication, true and false findings, alerts. Applications are
installed from PyPI, npm and Debian into `.run/applications` at the first run. Exits with 1 where a goal is missed or an
application could not be compared. Needs root, tshark, npm, and the package registries.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from scripts.bench_cases.applying.application import (
    Application,
    ApplicationError,
    drive,
    install,
    run_application,
)
from scripts.bench_cases.applying.catalogue import APPLICATIONS
from scripts.bench_cases.applying.observed import ObservedCall, read_calls, record_packets
from scripts.bench_cases.applying.scores import RISK_ALERTS, Score, score
from scripts.live.host import start_collector, start_sensor
from scripts.ports import take_port
from tests.bpf.cgroups import in_cgroup
from tests.e2e.inventory import Inventory

HOME: Final = Path(".run/applications").absolute()
SETTLE_SECONDS: Final = 75.0  # Windows of calls arrive after 10 s, and risk is computed once a minute.
GOALS: Final = {"precision": 0.90, "recall": 0.92, "authentication": 0.97}
FALSE_FINDINGS_MAX: Final = 0.05


def call_all(chosen: Iterable[Application], directory: Path) -> Iterator[tuple[Application, int, list[ObservedCall]]]:
    """Each application with its port and the calls that its client made; those that fail are said and skipped."""
    for application in chosen:
        port, second_port = take_port(), take_port()
        capture = directory / f"{application.name}.pcapng"
        try:
            home = install(application, HOME)
            data = directory / application.name
            with record_packets(port, capture), run_application(application, home, data, port, second_port):
                drive(application, home, data, port, second_port)
        except ApplicationError as error:
            print(json.dumps({"application": application.name, "error": str(error)}), flush=True)
            continue
        yield application, port, read_calls(capture, port)


def measure(chosen: list[Application], directory: Path) -> tuple[list[tuple[Application, Score]], list[str]]:
    """Calls all applications beside one sensor and one collector, and compares. Also alerts on callers alone, and on
    endpoints that have another template by now."""
    with in_cgroup("applications") as cgroup:
        collector, address = start_collector(directory / "data", directory)
        try:
            extra = ("--cgroup-path", str(cgroup), "--run-dir", str(directory / "run"))
            sensor = start_sensor(address, directory / "state", directory, *extra)
            try:
                driven = list(call_all(chosen, directory))
                time.sleep(SETTLE_SECONDS)
            finally:
                sensor.stop()
            inventory = Inventory(address.url)
            endpoints, findings, alerts = map(inventory.list_items, ("/endpoints", "/findings", "/alerts"))
            inventory.close()
        finally:
            collector.stop()
    (directory / "answers.json").write_text(json.dumps([endpoints, findings, alerts], indent=1))
    scored = [
        (application, score_one(application, port, calls, endpoints, findings, alerts))
        for application, port, calls in driven
    ]
    ids = {one["id"] for one in endpoints}
    of_none = [one for one in alerts if not any(is_about(one, ids, port) for _, port, _ in driven)]
    return scored, [f"{one['kind']}: {one['title']}" for one in of_none if one["kind"] not in RISK_ALERTS]


def score_one(
    application: Application,
    port: int,
    calls: list[ObservedCall],
    endpoints: list[dict[str, Any]],
    findings: list[dict[str, Any]],
    alerts: list[dict[str, Any]],
) -> Score:
    """The score of the application on `port`."""
    own = [one for one in endpoints if one["service"]["port"] == port]
    ids = {one["id"] for one in own}
    return score(
        application,
        calls,
        own,
        [one for one in findings if one["endpoint_id"] in ids],
        [one for one in alerts if is_about(one, ids, port)],
    )


def is_about(alert: Mapping[str, Any], ids: set[str], port: int) -> bool:
    """Whether an alert is about one of these endpoints or about the service on `port`."""
    return alert.get("endpoint_id") in ids or f":{port}" in json.dumps(alert)


def summarise(scored: list[tuple[Application, Score]], others: list[str]) -> dict[str, Any]:
    """The line for all, with the goals. `others`: alerts that belong to no application."""
    scores = [one for _, one in scored]
    true, false = sum(one.findings_true for one in scores), sum(len(one.findings_false) for one in scores)
    means: dict[str, float | None] = {}
    for name in GOALS:
        values = [value for one in scores if (value := getattr(one, name)) is not None]
        means[name] = round(statistics.fmean(values), 3) if values else None
    return {
        "applications": len(scores),
        "calls_made": sum(one.calls_made for one in scores),
        "calls_exact": sum(one.is_exact for one in scores),
        **means,
        "findings_true": true,
        "findings_false_share": round(false / (true + false), 3) if true + false else 0.0,
        "alerts": sum(len(one.alerts) for one in scores) + len(others),
        "alerts_of_no_application": others,
    }


def is_met(line: Mapping[str, Any]) -> bool:
    """Whether all goals are met."""
    shares = all(line[name] is not None and line[name] >= goal for name, goal in GOALS.items())
    exact = line["calls_exact"] == line["applications"]
    return shares and exact and line["findings_false_share"] <= FALSE_FINDINGS_MAX and line["alerts"] == 0


def main() -> None:
    """Prints the lines."""
    parser = argparse.ArgumentParser(prog="scripts/bench applications")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these applications only")
    parser.add_argument("--keep", type=Path, metavar="DIRECTORY", help="keep logs, captures and the API's answers here")
    options = parser.parse_args()
    if os.geteuid():
        sys.exit("bench: applications loads programs into the kernel: run it as root")
    chosen = [one for one in APPLICATIONS if not options.only or one.name in options.only]
    with tempfile.TemporaryDirectory(prefix="apidae-applications-") as temporary:
        directory = options.keep or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        scored, others = measure(chosen, directory.absolute())
    for application, one in scored:
        print(json.dumps({"application": application.name, **asdict(one)}), flush=True)
    line = summarise(scored, others)
    print(json.dumps(line))
    sys.exit(0 if is_met(line) and len(scored) == len(chosen) else 1)


if __name__ == "__main__":
    main()
