"""Refusals of what people ask for, raised in several packages. The API answers each with one status."""


class UnknownError(LookupError):
    """What was named does not exist; one sentence that names it and where to look it up."""


class ConflictError(Exception):
    """What was asked does not fit the state of things; one sentence that names this state."""
