"""The breach, replayed: thieves who take accounts at the pace of 37 million in 41 days, among honest callers.

    scripts/bench breach [--seeds 1-10] [--start-hour 12] [--honest-days 0]
    scripts/bench breach --live [--warm-seconds 60]

Days of rows are made by code and go through the detectors and the life of alerts as in the product; the way before
(sensor, stream, log) is taken as 1 s. Prints a JSON line for the past of three days and one for each thief (seconds
and records until the alert that names it, against its bar). With `--honest-days N` there is no thief: a line after each
of N days, with the time of the first accusations, so that a run that is cut short says something too; exits with 1
where somebody was accused.

With `--live` one thief of 10.4 records a second comes to nginx among honest callers, with a real sensor and collector,
for some two minutes (needs root and nginx; exits with 1 past its bars).
"""

import argparse
import json
import sys

from scripts.bench_cases.breaching.live import run_live
from scripts.bench_cases.breaching.thieves import THIEVES
from scripts.bench_cases.breaching.trial import STEP_SECONDS, Installation, try_thief
from scripts.bench_cases.breaching.world import DAY, START
from scripts.seeds import read_seeds


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", "--seed", type=read_seeds, default=range(1, 2), help="one, or from-to")
    parser.add_argument("--start-hour", type=int, default=12, help="of the day on which the thieves begin")
    parser.add_argument("--honest-days", type=float, default=0, help="days without a thief instead")
    parser.add_argument("--live", action="store_true", help="real services, sensor and collector instead")
    parser.add_argument("--warm-seconds", type=float, default=60, help="of honest calls before the live thief")
    arguments = parser.parse_args()
    if arguments.live:
        line = run_live(arguments.warm_seconds)
        print(json.dumps(line), flush=True)
        sys.exit(0 if line["is_met"] else 1)
    if arguments.honest_days:
        are_honest = [stay_honest(seed, arguments.honest_days) for seed in arguments.seeds]
        sys.exit(0 if all(are_honest) else 1)
    for seed in arguments.seeds:
        try_thieves(seed, arguments.start_hour)


def stay_honest(seed: int, days: float) -> bool:
    """Print a line after each of `days` without a thief; whether nobody was accused."""
    past = Installation(seed)
    while past.now < START + int(days * DAY):
        past.pass_honestly(min(START + int(days * DAY), past.now + DAY))
        print(json.dumps({"seed": seed, **past.summarise()}), flush=True)
    return not past.list_accused()


def try_thieves(seed: int, start_hour: int) -> None:
    """Print a line for the past and for each thief."""
    past = Installation(seed)
    for thief in sorted(THIEVES, key=lambda thief: thief.history_days):
        begin = START + int(thief.history_days * DAY)
        begin += 3_600 * start_hour if thief.history_days >= 1 else 0
        if past.now < begin:
            past.pass_honestly(begin // STEP_SECONDS * STEP_SECONDS)
            print(json.dumps({"seed": seed, "past": past.summarise()}), flush=True)
        print(json.dumps({"seed": seed, **try_thief(past, thief)}), flush=True)


if __name__ == "__main__":
    main()
