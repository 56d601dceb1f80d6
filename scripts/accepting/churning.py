"""Pods that live for seconds: each call at its Pod, each Pod named as a client, and how soon its endpoint is listed."""

import statistics
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

from scripts.accepting.calls import find_callers, make_target
from scripts.accepting.kubernetes_client import Object
from scripts.accepting.run import Acceptance
from scripts.accepting.workloads import VISITOR_PORT

PODS: Final = 60
WAVE: Final = 10
WAVE_SECONDS: Final = 90.0
LINGER_SECONDS: Final = 3.0
# From the start of a Pod's program to its endpoint in the API, under its name: the median and the longest.
GOAL_SECONDS: Final = (2.0, 4.0)
_PAUSE_SECONDS: Final = 0.1


def check_churn(run: Acceptance, goals: Sequence[float] = GOAL_SECONDS) -> None:
    """Waves of Pods, one after the other. `goals`: seconds from a Pod's start to its endpoint, median and longest."""
    expected: Counter[str] = Counter()
    started: dict[str, float] = {}
    seen: dict[str, float] = {}
    addresses: dict[str, str] = {}
    for first in range(0, PODS, WAVE):
        pods = [_make_pod(run, number) for number in range(first, min(first + WAVE, PODS))]
        run.kubernetes.apply(pods)
        _watch_wave(run, {pod["metadata"]["name"] for pod in pods}, seen)
        for item in run.kubernetes.list_items("pods", "-l", "app=churn"):
            name = item["metadata"]["name"]
            addresses[name] = item["status"].get("podIP", "")
            for line in run.kubernetes.read_lines(name):
                started[name] = line["started"]
                run.add_counted(name, [line])
        run.kubernetes.run("delete", "pods", "-l", "app=churn", "--wait=true")
    called: dict[str, float] = {}
    for line in run.kubernetes.read_lines("deployment/visitor"):
        expected.update(line["counted"])
        called[line["name"]] = line["called_at"]
    _check_servers(run, expected)
    _check_clients(run, addresses)
    _check_times(run, started, called, seen, goals)


def _make_pod(run: Acceptance, number: int) -> Object:
    visitor = f"visitor.{run.namespace}:{VISITOR_PORT}"
    target = make_target(run, "orders", 0, first=10_000 + 10 * number)
    pod = run.workloads.make_bare_pod(
        f"churn-{number}",
        "churn",
        name=f"churn-{number}",
        address="$POD_ADDRESS",
        visitor=visitor,
        target=target,
        count=1 + number % 4,
        linger_seconds=LINGER_SECONDS,
    )
    pod["metadata"]["labels"]["app"] = "churn"
    return pod


def _watch_wave(run: Acceptance, names: set[str], seen: dict[str, float]) -> None:
    """Until all have their endpoint, each with the time at which the API first had it, and have ended."""
    deadline = time.monotonic() + WAVE_SECONDS
    while not names <= seen.keys() and time.monotonic() < deadline:
        for item in run.collector.list_items("/endpoints", namespace=run.namespace, q="churn-"):
            seen.setdefault(item["service"]["workload"], time.time())
        time.sleep(_PAUSE_SECONDS)

    def count_running() -> int:
        pods = run.kubernetes.list_items("pods", "-l", "app=churn")
        return sum(pod["status"]["phase"] not in ("Succeeded", "Failed") for pod in pods)

    while count_running() and time.monotonic() < deadline:
        time.sleep(1)


def _check_servers(run: Acceptance, expected: Counter[str]) -> None:
    differences = run.compare(expected)
    served = len({key.partition(":")[0] for key in expected})
    run.table.add(
        "Pods that live for seconds",
        f"{expected.total()} calls, each at its Pod of {PODS}",
        differences or f"{expected.total()} calls at {served} Pods",
        holds=not differences and served == PODS,
        details=differences,
    )


def _check_clients(run: Acceptance, addresses: dict[str, str]) -> None:
    """An address may have had several of them: each call is under one of their names, and none under another's."""
    wrong, named, total = [], 0, 0
    for address in set(addresses.values()) - {""}:
        owners = Counter(
            {f"{run.namespace}/{name}": run.clients.get(name, 0) for name, one in addresses.items() if one == address}
        )
        found = find_callers(run, address)
        unnamed = found.pop("?", 0)
        total += owners.total()
        named += found.total()
        if any(calls > owners[label] for label, calls in found.items()) or found.total() + unnamed != owners.total():
            wrong.append(f"{address}: {dict(found)} and {unnamed} without a name, of {dict(owners)}")
    run.table.add(
        "clients that live for seconds",
        "none under another's name",
        "; ".join(wrong[:4]) or f"{named} of {total} calls named",
        holds=not wrong,
        details=wrong,
    )


def _check_times(
    run: Acceptance,
    started: dict[str, float],
    called: dict[str, float],
    seen: dict[str, float],
    goals: Sequence[float],
) -> None:
    """The nodes' clocks against this machine's: they are taken to agree."""
    times = sorted(seen[name] - started[name] for name in started.keys() & seen.keys())
    after_calls = sorted(seen[name] - called[name] for name in called.keys() & seen.keys())
    if len(times) < PODS:
        run.table.add("Pod start to named endpoint", f"of all {PODS}", f"only of {len(times)}", holds=False)
        return
    median, longest = statistics.median(times), times[-1]
    run.table.add(
        "Pod start to named endpoint",
        f"median {goals[0]:.0f} s, longest {goals[1]:.0f} s",
        f"median {median:.1f} s, longest {longest:.1f} s; after the first call {_describe(after_calls)}",
        holds=median <= goals[0] and longest <= goals[1],
        details=times,
    )


def _describe(times: list[float]) -> str:
    return f"{statistics.median(times):.1f} s and {times[-1]:.1f} s" if times else "not known"
