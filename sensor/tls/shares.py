"""Shares what there is too little of as the tree of cgroups is: each branch counts with all that is below it.

Who may make cgroups below his own has no more for it than one who may not, for his branch counts as one. Where two
cgroups are compared, it is at the level where their paths part. Pure.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Final

# Deeper ones count as the one above: a Pod's container lies at the fourth or fifth level.
MAX_LEVELS: Final = 16

_Branch = tuple[str, ...]


class CgroupShares:
    """Amounts by cgroup."""

    def __init__(self) -> None:
        self._amounts: Counter[_Branch] = Counter()

    def add(self, cgroup: str, amount: int) -> None:
        """`amount` more, or with a negative one less, of a cgroup given by its path."""
        for branch in _list_branches(cgroup):
            self._amounts[branch] += amount
            if not self._amounts[branch]:
                del self._amounts[branch]

    def halve(self) -> None:
        """What was long ago counts less."""
        self._amounts = Counter({branch: amount // 2 for branch, amount in self._amounts.items() if amount > 1})

    def rank(self, cgroup: str) -> tuple[int, ...]:
        """By which cgroups are ordered: those whose branches have least come first."""
        return tuple(self._amounts[branch] for branch in _list_branches(cgroup))

    def find_lightest(self, cgroups: Iterable[str]) -> str:
        """The one that has least."""
        return min(cgroups, key=self.rank)

    def is_heavier(self, cgroup: str, other: str) -> bool:
        """Whether the first has so much more that, if the other took one of its own, it would still have as much."""
        for one, two in zip(_list_branches(cgroup), _list_branches(other), strict=False):
            if one != two:
                return self._amounts[one] > self._amounts[two] + 1
        return False


def _list_branches(cgroup: str) -> list[_Branch]:
    """From the top down; the last stands for the cgroup itself, beside what is below it."""
    names = tuple(cgroup.strip("/").split("/", MAX_LEVELS)[:MAX_LEVELS])
    return [*(names[:depth] for depth in range(1, len(names) + 1)), (*names, "")]
