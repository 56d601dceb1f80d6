"""How much of something may still be made: a count under a bound, and under the bound of a larger whole.

The tables of `sensor.templating` are filled by clients. Each service takes from its own allowance and from the
sensor's, and what was seen served (2xx) takes from another pair than what never was, so that neither one service nor
a scanner can use up what the others need. Everything taken is returned when its table is evicted.
"""


class Allowance:
    """Counts what was taken, at most `limit`; with a `parent`, at most what that has left as well."""

    __slots__ = ("_parent", "limit", "used")

    def __init__(self, limit: int, parent: "Allowance | None" = None) -> None:
        self.limit = limit
        self.used = 0
        self._parent = parent

    def has(self, count: int) -> bool:
        """Whether `count` more may be taken."""
        return self.used + count <= self.limit and (self._parent is None or self._parent.has(count))

    def take(self, count: int = 1) -> bool:
        """Takes `count`, or nothing and answers no."""
        if not self.has(count):
            return False
        self._add(count)
        return True

    def give_back(self, count: int) -> None:
        """Returns what was taken."""
        self._add(-count)

    def _add(self, count: int) -> None:
        self.used += count
        if self._parent is not None:
            self._parent._add(count)
