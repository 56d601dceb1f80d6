"""Names the fields of an endpoint that probably hold a kind of sensitive data, by their names and formats. Pure.

Sensors report which kinds of data a body held, and apart from that which fields it had; no value leaves a node. So a
field is named for a kind where its name or format says so: `customer.email` for `email`, `card_number` for
`credit_card`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from collector.schemas.merging import FieldNode, Part
from collector.schemas.service import EndpointSchema

FIELDS_MAX: Final = 10  # Of one kind.
_NODES_MAX: Final = 2_000
_SPLIT: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+")
# Words of field names, besides those of the kind itself; each is whole.
_WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "address": ("street", "city", "zip", "postcode", "postal"),
    "credit_card": ("card", "pan", "creditcard", "cardnumber"),
    "date_of_birth": ("dob", "birth", "birthday", "birthdate", "born"),
    "driver_license": ("license", "licence"),
    "email": ("mail",),
    "ip_address": ("ip",),
    "person_name": ("name", "firstname", "lastname", "fullname", "surname", "author"),
    "phone": ("tel", "telephone", "mobile", "phonenumber"),
    "ssn": ("social",),
    "access_token": ("token",),
}
_PARTS: Final = (Part.RESPONSE_BODY, Part.REQUEST_BODY)


def find_fields(schema: EndpointSchema, kinds: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Paths of fields by kind, those of responses first; without kinds that no name or format says."""
    fields = [one for part in _PARTS for own in schema.parts if own.part is part for one in _walk(own.root)]
    found = {kind: tuple(dict.fromkeys(path for path, node in fields if _says(path, node, kind))) for kind in kinds}
    return {kind: paths[:FIELDS_MAX] for kind, paths in found.items() if paths}


def _walk(root: FieldNode) -> Iterator[tuple[str, FieldNode]]:
    """Fields with their paths, in order of these."""
    pending, seen = [("", root)], 0
    while pending and seen < _NODES_MAX:
        path, node = pending.pop()
        seen += 1
        if path and not path.endswith("[]"):
            yield path, node
        below = sorted(node.children.items(), reverse=True)
        pending += [(f"{path}{'' if step == '[]' or not path else '.'}{step}", child) for step, child in below]


def _says(path: str, node: FieldNode, kind: str) -> bool:
    words = [word.lower() for word in _SPLIT.split(path.rpartition(".")[2]) if word]
    wanted = kind.split("_")
    is_named = any(words[at : at + len(wanted)] == wanted for at in range(len(words))) or "".join(wanted) in words
    has_format = any(one.partition("/")[2] in (kind, kind.replace("_", "-")) for one in node.types)
    return is_named or has_format or any(word in _WORDS.get(kind, ()) for word in words)
