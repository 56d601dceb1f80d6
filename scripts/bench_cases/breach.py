"""The breach, replayed: seven thieves who take accounts at the pace of 37 million in 41 days, among honest callers.

    scripts/bench breach [--seed 1] [--start-hour 12] [--honest-days 0]
    scripts/bench breach --live [--warm-seconds 60]

Days of rows are made by code and go through the detectors and the life of alerts as in the product; the way before
(sensor, stream, log) is taken as 0.75 s. Prints a JSON line for the past of three days, one for each thief (seconds and
records until the alert that names it, against its bar), and with `--honest-days N` one for N days without any thief.

With `--live` one thief of 10.4 records a second comes to nginx among honest callers, with a real sensor and collector,
for some two minutes (needs root and nginx; exits with 1 past its bars).
"""

import argparse
import json
import sys

from scripts.bench_cases.breaching.live import run_live
from scripts.bench_cases.breaching.thieves import THIEVES
from scripts.bench_cases.breaching.trial import Installation, try_thief
from scripts.bench_cases.breaching.world import DAY, START


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start-hour", type=int, default=12, help="of the day on which the thieves begin")
    parser.add_argument("--honest-days", type=float, default=0, help="days without a thief instead")
    parser.add_argument("--live", action="store_true", help="real services, sensor and collector instead")
    parser.add_argument("--warm-seconds", type=float, default=60, help="of honest calls before the live thief")
    arguments = parser.parse_args()
    if arguments.live:
        line = run_live(arguments.warm_seconds)
        print(json.dumps(line), flush=True)
        sys.exit(0 if line["is_met"] else 1)
    past = Installation(arguments.seed)
    if arguments.honest_days:
        past.pass_honestly(START + int(arguments.honest_days * DAY))
        print(json.dumps({"seed": arguments.seed, **past.summarise()}), flush=True)
        return
    for thief in sorted(THIEVES, key=lambda thief: thief.history_days):
        begin = START + int(thief.history_days * DAY)
        begin += 3_600 * arguments.start_hour if thief.history_days >= 1 else 0
        if past.now < begin:
            past.pass_honestly(begin // 20 * 20)
            print(json.dumps({"seed": arguments.seed, "past": past.summarise()}), flush=True)
        print(json.dumps(try_thief(past, thief)), flush=True)


if __name__ == "__main__":
    main()
