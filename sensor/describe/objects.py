"""Finds the query parameters that name the object of a call, as path parameters do: `?report_id=27173`,
`?email=a@b.test`.

The name alone decides, whatever its case, so that the kernel can do the same (`sensor/offload/name_table.py`). Names
that end in id, uuid, guid or number count, and a few personal ones. Names of credentials, sessions, requests, pages and
campaigns say who calls or how, and are excluded. Values are hashed as they stand in the request, escapes included.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Final

from sensor.core.calls import CallTarget
from sensor.core.keyed import fold
from sensor.describe.auth.authentication import is_context_parameter, is_key_parameter

PARAMETERS_MAX: Final = 200  # As `sensor.describe.auth.authentication` reads them.
NAME_BYTES_MAX: Final = 64
NUMBER_DIGITS_MAX: Final = 18
_SEPARATORS: Final = str.maketrans("", "", "_-.[]$")
_ENDINGS: Final = ("uuid", "guid", "number", "ids", "id")  # The longer ones first.
_NAMES: Final = frozenset(
    {"email", "mail", "phone", "msisdn", "mobile", "imei", "imsi", "iccid", "vin", "ssn", "iban"}
    | {"username", "account", "accountno", "customer", "user", "order", "orderno", "invoice", "invoiceno"}
)
# What stands before the ending where the name is one of the caller, the call or the way of showing.
_OTHERS: Final = (
    *("session", "request", "req", "trace", "span", "correlation", "transaction", "client", "device", "app"),
    *(
        "application",
        "page",
        "campaign",
        "ad",
        "click",
        "utm",
        "tracking",
        "visitor",
        "anonymous",
        "install",
        "instance",
    ),
    *("nonce", "build", "tenant", "org", "organization", "organisation", "project", "workspace", "region"),
)
# Words that end in id and are none.
_WORDS: Final = frozenset(
    {"paid", "unpaid", "valid", "invalid", "grid", "void", "android", "hybrid", "liquid", "solid", "rapid", "fluid"}
    | {"bid", "kid", "mid", "hid", "did", "aid", "sid", "cid", "rid", "gid", "tid", "fbclid", "gclid", "dclid", "kids"}
)


@lru_cache(maxsize=4_096)
def names_object(name: str) -> bool:
    """Whether the value of a query parameter of this name is the object of the call, or part of it."""
    if len(name) > NAME_BYTES_MAX or is_key_parameter(name) or is_context_parameter(name):
        return False
    flat = name.lower().translate(_SEPARATORS)
    if flat in _NAMES:
        return True
    ending = next((ending for ending in _ENDINGS if flat.endswith(ending)), "")
    return bool(ending) and flat not in _WORDS and not flat.removesuffix(ending).endswith(_OTHERS)


def read_objects(query: str) -> Iterator[str]:
    """Values of the query's objects, in order, as they stand there; empty ones aside. Cost: 0.4 us a parameter."""
    for pair in query.split("&", PARAMETERS_MAX)[:PARAMETERS_MAX]:
        name, _, value = pair.partition("=")
        if value and names_object(name):
            yield value


def fold_objects(query: str, target: CallTarget, compute: Callable[[bytes], int]) -> CallTarget:
    """The target with the query's objects folded into the path's; the number is the last one's."""
    object_hash, number, is_found = target.object_hash, target.object_number, False
    for value in read_objects(query):
        hashed = compute(value.encode("latin-1"))
        object_hash = fold(object_hash, hashed) if object_hash else hashed
        number = int(value) if value.isascii() and value.isdigit() and len(value) <= NUMBER_DIGITS_MAX else None
        is_found = True
    return CallTarget(target.route, object_hash, number) if is_found else target
