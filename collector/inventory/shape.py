"""The shape of a route's path as text: reads segment kinds and texts, gives `/orders/{integer}`; unlike a template
it hides nothing."""

from collections.abc import Sequence

LITERAL = 1  # proto SegmentKind.
WORD = 2
SHAPES: dict[int, str] = {
    2: "word",
    3: "integer",
    4: "uuid",
    5: "hex",
    6: "ulid",
    7: "date",
    8: "email",
    9: "token",
    10: "parameter",
}


def describe_shape(kinds: Sequence[int], texts: Sequence[str], lengths: Sequence[int], has_trailing_slash: bool) -> str:
    """One segment after the other; a word that was not revealed shows its length only: `{word:7}`."""
    parts = []
    for kind, text, length in zip(kinds, texts, lengths, strict=True):
        if kind == LITERAL or (kind == WORD and text):
            parts.append(text)
        elif kind == WORD:
            parts.append(f"{{word:{length}}}")
        else:
            parts.append(f"{{{SHAPES.get(kind, f'kind_{kind}')}}}")
    path = "/" + "/".join(parts)
    return path + "/" if has_trailing_slash and parts else path
