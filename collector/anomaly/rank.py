"""The installation's bar: of all episodes that crossed a detector's threshold lately, only the oddest few become
signals.

Fifty thousand pairs in 10 s windows are 4e8 tests a day: no threshold on a single series holds a budget of two alerts
a day. Ranks do, whatever the distribution: if episodes are exchangeable, the chance that a new one is among the
`KEPT` largest of the last `MEMORY_DAYS` is KEPT / number, so they come at about KEPT / MEMORY_DAYS a day once the
memory is full, be there ten episodes a day or ten thousand (the argument of conformal prediction; Vovk, Gammerman,
Shafer, Algorithmic Learning in a Random World, 2005). A small installation has few episodes and none is held back.
"""

import bisect

import numpy as np

from collector.anomaly.detectors.contract import State

KEPT = 3
MEMORY_DAYS = 14
EPISODE_SECONDS = 3_600  # A subject that crosses again within it is in the same episode.
_REMEMBERED = 32  # Largest episodes held; more than KEPT, because the memory fades.
_DAY_SECONDS = 86_400


class EpisodeRank:
    """The largest episodes of one detector, by (score, time, subject)."""

    def __init__(self) -> None:
        self.held_back_count = 0
        self._episodes: list[tuple[float, int, int]] = []  # Ascending by score.

    def admit(self, subject: int, score: float, time: int) -> bool:
        """Whether this crossing may become a signal; remembers it either way. `score` >= 1, `time` in unix seconds."""
        self._episodes = [entry for entry in self._episodes if entry[1] > time - MEMORY_DAYS * _DAY_SECONDS]
        own = [entry for entry in self._episodes if entry[2] == subject and entry[1] > time - EPISODE_SECONDS]
        others_above = sum(entry[0] >= score for entry in self._episodes if entry not in own)
        best = max([score, *(entry[0] for entry in own)])
        self._episodes = [entry for entry in self._episodes if entry not in own]
        bisect.insort(self._episodes, (best, time, subject))
        del self._episodes[:-_REMEMBERED]
        is_admitted = others_above < KEPT
        self.held_back_count += not is_admitted
        return is_admitted

    def dump(self) -> State:
        """State for a checkpoint."""
        return {
            "score": np.array([entry[0] for entry in self._episodes], np.float64),
            "time": np.array([entry[1] for entry in self._episodes], np.int64),
            "subject": np.array([entry[2] for entry in self._episodes], np.uint64),
            "held_back": np.array([self.held_back_count]),
        }

    def load(self, state: State) -> None:
        """The inverse of `dump`."""
        rows = zip(state["score"].tolist(), state["time"].tolist(), state["subject"].tolist(), strict=True)
        self._episodes = [(float(score), int(time), int(subject)) for score, time, subject in rows]
        self.held_back_count = int(state["held_back"][0])
