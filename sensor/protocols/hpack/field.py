"""What an HPACK decoder gives: a header block as fields, and what stands in for bytes that were never seen."""

from typing import Any

import msgspec


class Placeholder(msgspec.Struct, frozen=True, gc=False):
    """The name or the value of a table entry that was inserted before the decoder joined, or that it had to forget.

    Within one decoder equal placeholders are equal text, for good, so that what is unknown can still be told apart.
    """

    epoch: int  # How often the decoder had lost its table.
    entry: int  # Counted from the first entry inserted after that; negative for those before.
    is_value: bool


# Name and value of a header field; names are lower case, as HTTP/2 demands (RFC 9113, section 8.2), not checked here.
# A plain tuple: objects would cost a quarter of the decoding. Blocks that name the same table entry share it.
Text = bytes | Placeholder
Field = tuple[Text, Text]


class HeaderBlock(msgspec.Struct, gc=False):
    """One decoded block. Shared between equal blocks while the table stands still; nobody changes it but what is
    kept of its reading."""

    fields: list[Field]
    error: str = ""  # Why it could not be decoded, a fixed word; then `fields` is empty.
    reading: Any = None
    is_plain: bool | None = None  # Whether it begins a request or a response as most do; None: not looked at.

    def __repr__(self) -> str:
        return f"HeaderBlock({len(self.fields)} fields, error={self.error!r})"
