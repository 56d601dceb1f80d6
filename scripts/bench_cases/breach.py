"""The breach, replayed: seven thieves who take accounts at the pace of 37 million in 41 days, among honest callers.

    scripts/bench breach [--seed 1] [--start-hour 12] [--honest-days 0]

Days of rows are made by code and go through the detectors and the life of alerts as in the product; the way before
(sensor, stream, log) is taken as 0.75 s, which `scripts/run --demo` shows for real. Prints a JSON line for the past
of three days, one for each thief (seconds and records until the alert that names it, against its bar), and with
`--honest-days N` one for N days without any thief.
"""

import argparse
import json

from scripts.bench_cases.breaching.thieves import THIEVES
from scripts.bench_cases.breaching.trial import Installation, try_thief
from scripts.bench_cases.breaching.world import DAY, START


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start-hour", type=int, default=12, help="of the day on which the thieves begin")
    parser.add_argument("--honest-days", type=float, default=0, help="days without a thief instead")
    arguments = parser.parse_args()
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
