"""Figures as a dictionary, for tests."""

from collections.abc import Iterable

from common.figures import Figure


def read_values(figures: Iterable[Figure]) -> dict[str, float]:
    """By name; those with labels by `name/value/value`."""
    return {"/".join((figure.name, *(value for _, value in figure.labels))): figure.value for figure in figures}
