"""Changes in request rates that no threshold was set on: how many are found, at how many false alarms a day.

    scripts/bench rates [--seed 1] [--series 6] [--data DIRECTORY] [--steps 60 300 3600]

Series of several sources (rating/series.py: made families, and files of DIRECTORY) get changes of seven kinds
(rating/changes.py). The product's detectors of endpoints evaluate all series at once, each as one endpoint. A change
is found when a run of alarms (gaps of three buckets at most) touches it or begins within five buckets of its end.
Any other run is a false alarm, unless it touches a bucket that was odd before.

Prints a JSON line a source: recall, false alarms a day and a series, recall by kind. `*` is all.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from collector.detection.volume.level import Observation
from collector.detection.volume.season import SeasonDetector
from collector.detection.volume.volume import ENDPOINT_WINDOWS
from scripts.bench_cases.rating.changes import ChangedSeries, change_series
from scripts.bench_cases.rating.series import DAY, F64, STEPS, make_series, read_series

Scored = dict[str, list[tuple[ChangedSeries, F64]]]
_WEEK = 7 * DAY
_GAP, _LATE = 3, 5  # Buckets.


@dataclass(slots=True)
class Tally:
    """What was found in some series."""

    days: float = 0.0
    false_alarms: int = 0
    kinds: dict[str, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))

    @property
    def recall(self) -> float:
        return sum(found for found, _ in self.kinds.values()) / max(sum(count for _, count in self.kinds.values()), 1)

    @property
    def alarms_a_day(self) -> float:
        return self.false_alarms / max(self.days, 1e-9)

    def add(self, changed: ChangedSeries, scores: F64) -> None:
        """One series."""
        is_found = [False] * len(changed.changes)
        for first, last in list_runs(scores >= 1):
            is_hit = False
            for place, change in enumerate(changed.changes):
                if first <= change.end + _LATE and last >= change.start:
                    is_found[place] = is_hit = True
            if not is_hit and not changed.is_odd[first : last + 1].any():
                self.false_alarms += 1
        for change, found in zip(changed.changes, is_found, strict=True):
            self.kinds[change.kind][0] += found
            self.kinds[change.kind][1] += 1
        self.days += len(scores) * changed.series.step / DAY

    def describe(self) -> dict[str, object]:
        return {
            "recall": round(self.recall, 3),
            "false_alarms_a_day": round(self.alarms_a_day, 3),
            "changes": sum(count for _, count in self.kinds.values()),
            "by_kind": {kind: f"{found}/{count}" for kind, (found, count) in sorted(self.kinds.items())},
        }


def list_runs(alarms: np.ndarray) -> list[tuple[int, int]]:
    """First and last bucket of each run of alarms."""
    runs: list[list[int]] = []
    for place in np.flatnonzero(alarms).tolist():
        if runs and place - runs[-1][1] <= _GAP:
            runs[-1][1] = place
        else:
            runs.append([place, place])
    return [(first, last) for first, last in runs]


def score_series(many: list[ChangedSeries]) -> list[F64]:
    """The highest score of the windows that close with each bucket. All series are of one step. They are moved by whole
    weeks, so that they run at the same time."""
    step = many[0].series.step
    lengths_used = [length for length in ENDPOINT_WINDOWS if length >= step]
    detectors = [SeasonDetector(window_seconds=length) for length in lengths_used]
    for detector in detectors:
        detector.grow(len(many))
    starts = np.array([one.series.start % _WEEK // step for one in many])
    lengths = np.array([len(one.series.calls) for one in many])
    first, last = int(starts.min()), int((starts + lengths).max())
    calls = np.zeros((last - first, len(many)))
    for place, one in enumerate(many):
        begin = int(starts[place]) - first
        calls[begin : begin + lengths[place], place] = one.series.calls
    scores = np.zeros_like(calls)
    sums = np.vstack([np.zeros(len(many)), np.cumsum(calls, axis=0)])
    for bucket in range(first, last):
        finer: SeasonDetector | None = None
        for detector in detectors:
            length = detector.window_seconds // step
            if (bucket + 1) % length:
                break
            begin = max(bucket + 1 - length, first)
            is_live = (starts <= begin) & (starts + lengths > bucket)
            slots = np.flatnonzero(is_live)
            if len(slots):
                values = (sums[bucket + 1 - first] - sums[begin - first])[slots]
                window = (bucket + 1) // length - 1
                observation = Observation(slots=slots, window=window, values=values, floor=np.zeros(len(slots)), age=0)
                score = detector.score(observation).score
                if finer is not None:
                    score = np.where(finer.covers(slots), 0.0, score)
                row = scores[bucket - first]
                row[slots] = np.maximum(row[slots], score)
                detector.learn(observation)
            finer = detector
    return [
        scores[int(start) - first : int(start) - first + int(length), place]
        for place, (start, length) in enumerate(zip(starts, lengths, strict=True))
    ]


def tally(pairs: Iterable[tuple[ChangedSeries, F64]]) -> Tally:
    """Of these series together."""
    total = Tally()
    for changed, scores in pairs:
        total.add(changed, scores)
    return total


def score_all(changed: list[ChangedSeries]) -> Scored:
    """By source."""
    scored: Scored = defaultdict(list)
    for step in sorted({one.series.step for one in changed}):
        many = [one for one in changed if one.series.step == step]
        for pair in zip(many, score_series(many), strict=True):
            scored[pair[0].series.source].append(pair)
    return scored


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--series", type=int, default=6, help="of each made family")
    parser.add_argument("--data", type=Path, help="a directory of recorded series")
    parser.add_argument("--steps", type=int, nargs="*", default=STEPS, help="seconds")
    arguments = parser.parse_args()
    series = list(make_series(arguments.seed, arguments.series))
    series += list(read_series(arguments.data)) if arguments.data else []
    changed = [change_series(one, arguments.seed) for one in series if one.step in arguments.steps]
    scored = score_all(changed)
    for source, pairs in scored.items():
        print(json.dumps({"source": source, **tally(pairs).describe()}), flush=True)
    everything = tally(pair for pairs in scored.values() for pair in pairs)
    print(json.dumps({"source": "*", **everything.describe()}))


if __name__ == "__main__":
    main()
