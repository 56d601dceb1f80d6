"""What lists can be asked: filters, sort and page, each written once.

A list is a class of `ListQuery`, and a filter is one field of it: name, type, sentence, and a `Filter` with its SQL
predicate. From the field come the query parameter of the API with its description, the predicate, the option of the
command line, the control of the page and a row of docs/reference/filters.md (docs/internals/development.md).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Annotated, Any, ClassVar, Generic, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

from collector.core.moments import MOMENT_CHARACTERS_MAX, MOMENT_EXAMPLES, MOMENT_FORMS, read_moment
from collector.inventory.query import (
    CURSOR_CHARACTERS_MAX,
    Cursor,
    Since,
    Span,
    digest_question,
    read_cursor,
    span_between,
    span_since,
    write_cursor,
)

ItemT = TypeVar("ItemT")
RowT = TypeVar("RowT")

LIMIT_DEFAULT = 50
LIMIT_MAX = 500  # One page of the API; more is paged.
SEARCH_CHARACTERS_MAX = 200
SEARCH_WORDS_MAX = 8


def _check_text(value: str) -> str:
    if not value.isprintable():
        raise ValueError("use printable characters only")
    return value


def _check_moment(value: str) -> str:
    if value:
        read_moment(value, 0.0)
    return value


Text = Annotated[str, AfterValidator(_check_text)]
# Kept as it was written: a relative time moves with the clock, and the question is still the same.
Moment = Annotated[str, AfterValidator(_check_moment)]
Limit = Annotated[int, Field(ge=1, le=LIMIT_MAX, description="Items of one page.")]
CursorWord = Annotated[str, Field(max_length=CURSOR_CHARACTERS_MAX, description="`next_cursor` of the page before.")]


class Order(StrEnum):
    """Direction of a sort."""

    ASCENDING = "asc"
    DESCENDING = "desc"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A predicate with its parameters. `columns` are the figures that it compares, which must be summed up first; a
    predicate on names has none. `within` is a predicate around those that share it, joined at `{conditions}`: one
    subquery for all of them.
    """

    sql: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    within: str = ""


@dataclass(frozen=True, slots=True)
class Filter:
    """How a field of a list filters. `where` is SQL with the parameter `{NAME:Type}`, a function of the value, or None
    where the list is not read by SQL. `title` names its control on the page; without one the page only shows the value.
    `choices` are offered there, of a type that is no enumeration. `is_moment`: the parameter is the value in unix
    seconds. `is_folded`: the control is behind "More filters". `within`: see Condition.
    """

    where: str | Callable[[Any], Condition] | None
    columns: tuple[str, ...] = ()
    title: str = ""
    choices: tuple[str, ...] = ()
    is_moment: bool = False
    is_folded: bool = False
    within: str = ""

    def build(self, name: str, value: Any, now: float = 0.0) -> Condition | None:
        """The condition for a value; `now` is what relative times are before, in unix seconds."""
        if self.where is None or value in ("", None):
            return None
        if not isinstance(self.where, str):
            return self.where(value)
        plain = value.value if isinstance(value, Enum) else read_moment(value, now) if self.is_moment else value
        return Condition(sql=self.where, parameters={name: plain}, columns=self.columns, within=self.within)


def list_members(info: FieldInfo) -> tuple[str, ...]:
    """The values that a field takes whose type is an enumeration."""
    kinds = (info.annotation, *get_args(info.annotation))
    return tuple(
        member.value for kind in kinds if isinstance(kind, type) and issubclass(kind, StrEnum) for member in kind
    )


def match_words(searched: str) -> Callable[[str], Condition]:
    """Every word of the search must occur in `searched`, an SQL expression."""

    def build(search: str) -> Condition:
        words = search.split()[:SEARCH_WORDS_MAX]
        return Condition(
            sql=" AND ".join(
                f"positionCaseInsensitiveUTF8({searched}, {{word{number}:String}}) > 0" for number in range(len(words))
            )
            or "true",
            parameters={f"word{number}": word for number, word in enumerate(words)},
        )

    return build


class Parameters(BaseModel):
    """Refuses names it does not know."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=False)


def merge_conditions(conditions: Iterable[Condition]) -> list[Condition]:
    """The same, with those inside one `within` as one."""
    merged: list[Condition] = []
    inside: dict[str, list[Condition]] = {}
    for one in conditions:
        if one.within:
            inside.setdefault(one.within, []).append(one)
        else:
            merged.append(one)
    for within, several in inside.items():
        parameters = {name: value for one in several for name, value in one.parameters.items()}
        joined = " AND ".join(f"({one.sql})" for one in several)
        merged.append(Condition(sql=within.replace("{conditions}", joined), parameters=parameters))
    return merged


class SpanParameters(Parameters):
    """Which time to look at."""

    since: Since = Field(default=Since.DAY, description="How far back to look; beyond 48 h by the hour.")
    start: Moment = Field(
        default="",
        max_length=MOMENT_CHARACTERS_MAX,
        description=f"Look from this time on, instead of `since`: {MOMENT_FORMS}. Spans up to 3 h are counted in whole "
        "minutes while these are kept (48 h), up to 48 h in whole hours, and beyond in whole days, of UTC.",
        examples=list(MOMENT_EXAMPLES),
    )
    end: Moment = Field(
        default="",
        max_length=MOMENT_CHARACTERS_MAX,
        description="Look until this time, as in `start`; default: now.",
        examples=["1h", "today", "2026-11-29T15:00:00Z"],
    )

    def find_span(self, now: float) -> Span:
        """The span, where `now` is the present in unix seconds. Raises SpanError."""
        if not self.start and not self.end:
            return span_since(self.since, now)
        end = read_moment(self.end, now) if self.end else int(now) + 1
        return span_between(read_moment(self.start, now) if self.start else end - self.since.seconds, end, now)

    def word_span(self) -> str:
        """`in the last 24h`, or from when to when."""
        if not self.start and not self.end:
            return f"in the last {self.since}"
        start = f"from {self.start}" if self.start else f"in the {self.since}"
        return f"{start} to {self.end or 'now'}" if self.start else f"{start} before {self.end}"


class ListQuery(Parameters):
    """Filters (empty or None: any) and page."""

    model_config = ConfigDict(frozen=True)

    limit: Limit = LIMIT_DEFAULT
    cursor: CursorWord = ""

    @classmethod
    def list_filters(cls) -> dict[str, tuple[FieldInfo, Filter]]:
        """The fields that filter, by name."""
        found = {}
        for name, info in cls.model_fields.items():
            for one in info.metadata:
                if isinstance(one, Filter):
                    found[name] = info, one
        return found

    @property
    def fingerprint(self) -> str:
        """What a cursor belongs to: everything but the limit and the place. The bounds of a span move with the clock
        and stay out."""
        return digest_question(type(self).__name__, self.model_dump_json(exclude={"limit", "cursor"}))

    def build_conditions(self, now: float = 0.0) -> list[Condition]:
        """The predicates of the filters that are set; `now` is the present in unix seconds, for relative times."""
        built = (one.build(name, getattr(self, name), now) for name, (_, one) in self.list_filters().items())
        return merge_conditions(condition for condition in built if condition is not None)

    def read_cursor(self, value_type: type[float] | type[str]) -> Cursor | None:
        """Where the page starts; None on the first. Raises CursorError when the cursor is not of this query."""
        return read_cursor(self.cursor, self.fingerprint, value_type) if self.cursor else None

    def cut(self, rows: Sequence[RowT], place: Callable[[RowT], Cursor]) -> tuple[Sequence[RowT], str | None]:
        """The rows of a page, of which one more was read, and the cursor of the next page."""
        shown = rows[: self.limit]
        is_last = len(rows) <= self.limit
        return shown, None if is_last else write_cursor(place(shown[-1]), self.fingerprint)


class SortedQuery(ListQuery):
    """A list that the client sorts; `order` None is the order that a person means who names only the sort."""

    ASCENDING: ClassVar[frozenset[StrEnum]] = frozenset()  # Sorts that begin with the least; others with the most.

    sort: StrEnum
    order: Order | None = None

    @classmethod
    def choose_order(cls, sort: StrEnum) -> Order:
        """The order of a sort that is asked for without one."""
        return Order.ASCENDING if sort in cls.ASCENDING else Order.DESCENDING

    @property
    def direction(self) -> Order:
        """The order that holds."""
        return self.order or self.choose_order(self.sort)

    def page(
        self, after: Cursor | None, value_type: type[float] | type[str], key: str = "id"
    ) -> tuple[str, dict[str, Any]]:
        """The end of a statement over `sort_value` and the column `key`: the rows of one page and one more."""
        direction, comparison = ("ASC", ">") if self.direction is Order.ASCENDING else ("DESC", "<")
        parameters: dict[str, Any] = {"rows": self.limit + 1}
        keyset = ""
        if after is not None:
            column = "Float64" if value_type is float else "String"
            keyset = f"WHERE (sort_value, {key}) {comparison} ({{after_value:{column}}}, {{after_id:String}})"
            parameters |= {"after_value": after.value, "after_id": after.id}
        return (
            f"{keyset}\nORDER BY sort_value {direction}, {key} {direction}\nLIMIT {{rows:UInt32}}",
            parameters,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[ItemT]):
    """One page, where the next one starts (None on the last), and how many items match in all."""

    items: tuple[ItemT, ...] = ()
    next_cursor: str | None = None
    total: int = 0
