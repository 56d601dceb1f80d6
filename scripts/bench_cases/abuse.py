"""Abuse on days that nobody looked at: fifteen kinds of attacks, varied by seed, through the product's own code.

    scripts/bench abuse [--application shop] [--seeds 1-10] [--keep DIRECTORY]

A made day of a service (abusing/) goes line by line through `tests.accuracy`: sensor, wire, detectors, life of alerts.
An attack is found when an alert names one of its addresses or tokens between its first call and 600 s after its last;
whoever else is named is accused falsely. Prints a JSON line a seed, and one with the mean and the worst recall, and the
accused to a thousand honest callers. The detectors were set on the shop; the other applications have callers of other
kinds (abusing/applications.py). `--keep`: the days, answers and their truth stay there.
"""

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median

from scripts.bench_cases.abusing.applications import APPLICATIONS, SHOP
from scripts.bench_cases.abusing.attacks import Attack, attack
from scripts.bench_cases.abusing.day import Day, order
from scripts.seeds import read_seeds

_GRACE_SECONDS = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What was told of a day."""

    recall: float
    missed: list[str]  # Attackers.
    accused: list[str]  # Who else, and of what.
    honest: int  # How many there are.
    median_share_seen: float | None  # Of the calls of an attack that was told, those until then.


def measure(seed: int, directory: Path, application: str = SHOP) -> tuple[int, Score]:
    """One seed's day: how many calls it has, and what was told of it."""
    day = Day(seed, application)
    attacks = attack(day)
    lines, answers = directory / f"{seed}.jsonl", directory / f"{seed}.out"
    with lines.open("w", encoding="utf-8") as file:
        for line in order(day.lines):
            fields = {"ts": line.time, "ip": line.address, "ua": line.agent, "tok": line.token, "method": line.method}
            print(
                json.dumps(
                    {**fields, "path": line.path, "status": line.status, "rb": line.size, "ms": line.milliseconds}
                ),
                file=file,
            )
    subprocess.run([sys.executable, "-m", "tests.accuracy", "abuse", str(lines), str(answers)], check=True)
    alerts = [json.loads(text) for text in answers.read_text(encoding="utf-8").splitlines()]
    return len(day.lines), score(day, attacks, alerts)


def score(day: Day, attacks: list[Attack], alerts: list[dict[str, object]]) -> Score:
    """Found and accused, as the module says."""
    found: dict[str, float] = {}
    accused: Counter[str] = Counter()
    for alert in alerts:
        time = float(str(alert["ts"]))
        meant = [
            one.actor
            for one in attacks
            if (alert["ip"] in one.addresses or alert["tok"] in one.tokens)
            and one.first <= time <= one.last + _GRACE_SECONDS
        ]
        for actor in meant:
            found.setdefault(actor, time)
        if not meant:
            accused[f"{_name(day, alert)} {alert['kind']}"] += 1
    shares = []
    for one in attacks:
        if one.actor in found:
            times = [line.time for line in day.lines if line.actor == one.actor]
            shares.append(sum(time <= found[one.actor] for time in times) / len(times))
    return Score(
        recall=round(len(found) / len(attacks), 3),
        missed=[one.actor for one in attacks if one.actor not in found],
        accused=sorted(accused),
        honest=day.honest_count,
        median_share_seen=round(median(shares), 3) if shares else None,
    )


def _name(day: Day, alert: dict[str, object]) -> str:
    """Who is behind an alert's address or token."""
    who = {line.actor for line in day.lines if alert["tok"] and line.token == alert["tok"]}
    who = who or {line.actor for line in day.lines if line.address == alert["ip"]}
    return "+".join(sorted(who)) or str(alert["ip"] or alert["tok"])


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=read_seeds, default=range(1, 11), help="one, or from-to")
    parser.add_argument("--application", choices=(SHOP, *APPLICATIONS), default=SHOP, help="whose callers")
    parser.add_argument("--keep", type=Path, help="an existing directory")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        told = []
        for seed in arguments.seeds:
            calls, one = measure(seed, arguments.keep or Path(scratch), arguments.application)
            told.append(one)
            print(json.dumps({"seed": seed, "calls": calls, **dataclasses.asdict(one)}), flush=True)
    recalls = [one.recall for one in told]
    accused = sum(len(one.accused) for one in told)
    honest = sum(one.honest for one in told)
    print(
        json.dumps(
            {
                "seeds": len(told),
                "recall_mean": round(mean(recalls), 3),
                "recall_worst": min(recalls),
                "accused": accused,
                "accused_per_1000": round(1_000 * accused / honest, 2),
                "missed": Counter(name.split("-")[1] for one in told for name in one.missed),
            }
        )
    )


if __name__ == "__main__":
    main()
