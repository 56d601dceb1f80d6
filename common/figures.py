"""Figures for metrics, and accounts whose fields are figures.

An account is a dataclass with a field made by `total` for each thing that it counts. `list_figures` gives all fields,
so a counter that is added to an account is exported with its sentence and cannot be forgotten. `collect_families` makes
Prometheus metrics of figures at each scrape. docs/reference/metrics.md describes each.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from prometheus_client.core import Metric

_SENTENCE: Final = "documentation"
_NAME: Final = "name"

_Account = TypeVar("_Account", bound="DataclassInstance")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One value of a metric. Figures of one name have labels of the same names."""

    name: str  # Without the prefix of its side, and without `_total`.
    documentation: str  # A sentence: what is counted, and in which unit.
    value: float
    is_total: bool  # Only grows while the process lives; else it is what is at the moment.
    labels: tuple[tuple[str, str], ...] = ()  # Name and value of each; values are bounded.
    # Of a histogram, whose `value` is the sum: the upper bound of each bucket, ascending to `+Inf`, and what is at most
    # that.
    buckets: tuple[tuple[str, int], ...] = ()


def total(documentation: str, *, name: str = "") -> Any:
    """A field of an account: an int that begins at 0 and only grows. `name`: its figure's whole name, where that is
    not the field's behind a prefix."""
    return field(default=0, metadata={_SENTENCE: documentation, _NAME: name})


def list_figures(account: "DataclassInstance", prefix: str = "", **labels: str) -> tuple[Figure, ...]:
    """Each field of an account, in order."""
    return make_totals(
        (
            (one.metadata[_NAME] or prefix + one.name, one.metadata[_SENTENCE], getattr(account, one.name))
            for one in fields(account)
        ),
        **labels,
    )


def sum_accounts(make: Callable[[], _Account], accounts: Iterable[_Account]) -> _Account:
    """A new account with the sums of all, field by field."""
    summed = make()
    names = [one.name for one in fields(summed)]
    for account in accounts:
        for name in names:
            setattr(summed, name, getattr(summed, name) + getattr(account, name))
    return summed


def make_totals(rows: Iterable[tuple[str, str, float]], prefix: str = "", **labels: str) -> tuple[Figure, ...]:
    """Figures that only grow, of (name, documentation, value)."""
    pairs = tuple(labels.items())
    return tuple(
        Figure(name=prefix + name, documentation=text, value=value, is_total=True, labels=pairs)
        for name, text, value in rows
    )


def make_gauges(rows: Iterable[tuple[str, str, float]], prefix: str = "", **labels: str) -> tuple[Figure, ...]:
    """Figures of the moment, of (name, documentation, value)."""
    return tuple(replace(one, is_total=False) for one in make_totals(rows, prefix, **labels))


def make_labelled(
    name: str, documentation: str, label: str, values: Iterable[tuple[str, float]], *, is_total: bool = True
) -> tuple[Figure, ...]:
    """Figures of one name, one for each (value of `label`, value)."""
    return tuple(
        Figure(name=name, documentation=documentation, value=value, is_total=is_total, labels=((label, key),))
        for key, value in values
    )


def collect_families(prefix: str, figures: Iterable[Figure]) -> "Iterator[Metric]":
    """Prometheus families of figures, one for each name; `prefix` is that of the program."""
    # Here, for it loads an HTTP server, and the detectors' process only counts.
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    families: dict[str, CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily] = {}
    for figure in figures:
        family = families.get(figure.name)
        if family is None:
            make = CounterMetricFamily if figure.is_total else GaugeMetricFamily
            names = [name for name, _ in figure.labels]
            family = families[figure.name] = (HistogramMetricFamily if figure.buckets else make)(
                prefix + figure.name, figure.documentation, labels=names
            )
        values = [value for _, value in figure.labels]
        if isinstance(family, HistogramMetricFamily):
            family.add_metric(values, buckets=figure.buckets, sum_value=figure.value)
        else:
            family.add_metric(values, figure.value)
    yield from families.values()
