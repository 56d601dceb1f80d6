"""Twenty different values are enough for a parameter, whatever they look like, in any order, beside a literal sibling;
and what scanners guess is no endpoint. Through the sensor's own bytes and the collector's grouping (tests/accuracy)."""

import random
import string
from collections.abc import Callable

import pytest

from tests.accuracy.templates import infer

VALUES = 20
NAMES = (
    *("james", "mary", "john", "linda", "wei", "priya", "ahmed", "fatima", "ivan", "olga", "kenji", "yuki", "carlos"),
    *("sofia", "lars", "ingrid", "kofi", "amara", "pierre", "chloe"),
)
THINGS = ("dress", "chair", "lamp", "table", "shirt")
LOOKS = ("red", "blue", "warm", "quiet")

Write = Callable[[random.Random, int], str]
KINDS: dict[str, Write] = {
    "integers": lambda source, number: str(1_000 + 7 * number),
    "uuids": lambda source, number: f"{source.getrandbits(32):08x}-1234-4abc-8abc-{source.getrandbits(48):012x}",
    "names": lambda source, number: NAMES[number],
    "logins": lambda source, number: f"{NAMES[number]}.{source.choice('abcdefgh')}{number}",
    "slugs": lambda source, number: f"{LOOKS[number % 4]}-{THINGS[number // 4]}",
    "codes": lambda source, number: "".join(source.choices("ABCDEFGH", k=3)) + str(100 + number),
    "addresses": lambda source, number: f"{NAMES[number]}@example.org",
    "random": lambda source, number: "".join(source.choices(string.ascii_letters + string.digits, k=12)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_twenty_values_are_a_parameter_in_any_order(kind: str) -> None:
    source = random.Random(3)
    values = [KINDS[kind](source, number) for number in range(VALUES)]
    assert len(set(values)) == VALUES
    paths = [
        *(path for value in values for path in (f"/v1/users/{value}", f"/v1/users/{value}/orders")),
        *["/v1/users/me"] * 60,
        *["/v1/users"] * 30,
    ]
    lines: list[dict[str, object]] = [{"m": "GET", "path": path, "status": 200} for path in paths]
    lines += [
        {"m": "GET", "path": path, "status": 404} for path in ("/v1/wp-login.php", "/.env", "/v1/users/admin.php")
    ]
    answers: set[frozenset[str | None]] = set()
    for order in range(3):
        random.Random(order).shuffle(lines)
        answers.add(frozenset(infer(list(enumerate(lines)), "shop").values()))
    (found,) = answers
    told = sorted(template for template in found if template is not None)
    assert told[:2] == ["/v1/users", "/v1/users/me"] and None in found
    assert len(told) == 4 and told[2].startswith("/v1/users/{") and told[3] == f"{told[2]}/orders"
