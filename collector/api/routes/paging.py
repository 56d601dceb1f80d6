"""Pages of what was opened at some time, newest first: alerts and incidents."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from collector.api.alerts import AlertPlace
from collector.api.problem import refuse_cursor
from collector.inventory.cursor import Cursor, CursorError, digest_question, read_cursor, write_cursor


class Opened(Protocol):
    """What has a time and an id to be found again by."""

    @property
    def opened_at(self) -> float:
        """Unix seconds."""
        ...

    @property
    def id(self) -> str:
        """Breaks ties."""
        ...


OpenedT = TypeVar("OpenedT", bound=Opened)


def read_page(
    cursor: str, limit: int, question: Sequence[str], find: Callable[[int, AlertPlace | None], Sequence[OpenedT]]
) -> tuple[Sequence[OpenedT], str | None]:
    """One page and the cursor of the next; None where it is the last. `question`: what else was asked, for a cursor is
    good for that alone; `find` gives at most so many after a place. Raises Problem."""
    asked = digest_question(*question)
    try:
        after = read_cursor(cursor, asked, float) if cursor else None
    except CursorError as error:
        raise refuse_cursor(cursor, error) from error
    found = find(limit + 1, None if after is None else AlertPlace(opened_at=float(after.value), id=after.id))
    shown = found[:limit]
    if len(found) <= limit:
        return shown, None
    return shown, write_cursor(Cursor(value=shown[-1].opened_at, id=shown[-1].id), asked)
