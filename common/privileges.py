"""Names of fields that grant something: who may do what, whose it is, what it costs, whether it was checked.

A sensor reports one by its number in this list, and the collector shows it. Numbers travel, so a name keeps its place
and a new one goes last. Names are compared without case, signs and the words of `_BEGINNINGS`, so `isAdmin`,
`user[is_admin]` and `ADMIN` are one.

Source: OWASP API3:2023, CWE-915, and field names of published descriptions.
"""

import re
from functools import lru_cache
from typing import Final

OTHER: Final = 63  # Any name that is not in the list.
_STRONG: Final = (
    *("admin", "role", "roles", "permissions", "scopes", "groups", "privileges", "superuser", "staff"),
    *("access_level", "balance", "credit", "credits", "price", "unit_price", "discount", "refunded", "paid"),
    *("verified", "email_verified", "phone_verified", "confirmed", "approved", "blocked", "banned", "locked"),
    *("kyc_status", "mfa_enabled", "password_hash", "tier", "quota"),
)
# Clients send these for good reasons, too: a state that people change, their own id, a sum to compare.
_WEAK: Final = (
    *("type", "owner", "owner_id", "user_id", "account_id", "tenant_id", "organization_id", "created_by", "total"),
    *("amount", "fee", "tax", "plan", "subscription", "limit", "active", "enabled", "deleted", "status", "state"),
    *("trial_ends_at", "expires_at", "created_at", "score", "rating", "points", "visibility"),
    *("internal", "featured"),
)
NAMES: Final = (*_STRONG, *_WEAK)
_BEGINNINGS: Final = ("is", "has", "user", "account", "member", "customer", "my")
_SIGNS: Final = re.compile(r"[^a-z0-9]+")


def _fold(name: str) -> str:
    return _SIGNS.sub("", name.lower())


_NUMBERS: Final = {_fold(name): number for number, name in enumerate(NAMES, 1)}


@lru_cache(maxsize=4_096)
def number_name(name: str) -> int:
    """The number of a field's name, from 1 on; OTHER where it is not in the list."""
    folded = _fold(name)
    for _ in range(3):
        number = _NUMBERS.get(folded)
        beginning = next((one for one in _BEGINNINGS if folded.startswith(one)), "")
        if number is not None or not beginning:
            return number or OTHER
        folded = folded.removeprefix(beginning)
    return _NUMBERS.get(folded, OTHER)


def is_weak(number: int) -> bool:
    """Whether clients send such a field for good reasons, too; so it is with OTHER."""
    return number > len(_STRONG)


def show_name(number: int) -> str:
    """The name as alerts write it; empty for OTHER."""
    return NAMES[number - 1] if 0 < number <= len(NAMES) else ""
