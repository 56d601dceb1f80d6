"""Values of bodies that JSON has no type for."""


class Text(str):
    """Text without a type of its own: of a form, a query, a header."""

    __slots__ = ()


class Binary(bytes):
    """Bytes that are not read: a file in a form, a field of protobuf, a body of another type."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Binary({len(self)} bytes)"
