"""What of a request's fields tells one client software from another: which of five stand in it, in which order, and the
name of the first product of its User-Agent.

Programs and libraries write these fields in an order of their own, whatever they ask for (the idea of JA4H); what a
call is about changes others. Versions are left out: they change with each release. The kernel folds the same into a
profile (bpf/fields.h), so one profile has one sequence of marks.
"""

import re
from typing import Final

AGENT: Final = b"user-agent"
# The names that are looked at. Of HTTP/2, `connection` is none.
NAMES: Final = frozenset((b"accept", b"accept-encoding", b"accept-language", b"connection", AGENT))
PRODUCT_BYTES: Final = 16
_PRODUCT: Final = re.compile(rb"[^\x00-\x20/]{0,%d}" % PRODUCT_BYTES)


def read_mark(name: bytes, value: bytes) -> bytes:
    """The mark of a field whose `name` is in NAMES; `value` without blanks around it. Private to the node."""
    if name != AGENT:
        return name
    product = _PRODUCT.match(value)
    return b"%s %s" % (name, product[0] if product else b"")
