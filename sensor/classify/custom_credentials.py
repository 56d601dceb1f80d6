"""Credentials that the operator named: the entries of `custom_credentials` in, names by place out.

A header of such a name carries a key (or a JWT), a cookie a session, a query parameter a key, whatever the name looks
like. Values shorter than a key's are none, as everywhere. sensor/config.py refuses entries that are none.
"""

from collections.abc import Iterable

from sensor.classify.authentication import CustomCredentials


def read_custom_credentials(entries: Iterable[str]) -> CustomCredentials:
    """Of `header:NAME`, `cookie:NAME`, `query:NAME`."""
    names: dict[str, set[str]] = {}
    for entry in entries:
        place, _, name = entry.lower().partition(":")
        names.setdefault(place, set()).add(name)
    return CustomCredentials(
        headers=frozenset(name.encode() for name in names.get("header", ())),
        cookies=frozenset(name.encode() for name in names.get("cookie", ())),
        parameters=frozenset(names.get("query", ())),
    )
