"""Abuse in the contents of requests to four services: attackers are found, and honest callers are not accused.

    scripts/bench requests [--seeds 1-5]

Each service is used for three hours by honest callers, and attacked in the third (requesting/): GraphQL (depth,
aliases, batches), a service that fetches what callers name (SSRF), profiles that callers write (mass assignment), and
an MCP server (loops, fan-out).
All goes through the product's own code: bodies, sensor, wire, detectors, life of alerts. Prints a JSON line a seed and
service, and one a service with recall, what was missed, and the accused to a thousand honest callers. An accusation is
an alert above low severity that names an honest caller. The level is `paranoid`, so that no budget hides either.
"""

import argparse
import json
from collections import Counter
from collections.abc import Callable

from scripts.bench_cases.requesting.agents import make_agents
from scripts.bench_cases.requesting.fetching import make_fetching
from scripts.bench_cases.requesting.graphql import make_graphql
from scripts.bench_cases.requesting.profiles import make_profiles
from scripts.bench_cases.requesting.scene import Scene, Score, play
from scripts.seeds import read_seeds

SERVICES: dict[str, Callable[[Scene], None]] = {
    "graphql": make_graphql,
    "fetching": make_fetching,
    "profiles": make_profiles,
    "agents": make_agents,
}


def measure(name: str, seeds: range) -> list[Score]:
    """One score a seed, each printed."""
    scores = []
    for seed in seeds:
        scene = Scene(seed)
        SERVICES[name](scene)
        score = play(scene)
        scores.append(score)
        line = {"service": name, "seed": seed, "calls": len(scene.calls), "honest": score.honest}
        print(json.dumps({**line, "missed": score.missed, "accused": score.accused}), flush=True)
    return scores


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=read_seeds, default=range(1, 6), help="one, or from-to")
    parser.add_argument("--services", nargs="*", choices=SERVICES, default=list(SERVICES))
    arguments = parser.parse_args()
    for name in arguments.services:
        scores = measure(name, arguments.seeds)
        attacks, missed = sum(score.attacks for score in scores), [one for score in scores for one in score.missed]
        honest, accused = sum(score.honest for score in scores), sum(len(score.accused) for score in scores)
        total = {
            "service": name,
            "recall": round(1 - len(missed) / attacks, 3),
            "missed": Counter(one.rpartition("-")[0] for one in missed),
            "honest": honest,
            "accused_per_1000": round(1_000 * accused / honest, 2),
        }
        print(json.dumps(total), flush=True)


if __name__ == "__main__":
    main()
