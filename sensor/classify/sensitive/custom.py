"""Classes of sensitive data that an operator names: patterns in, a finder out.

Patterns are RE2's, which match in time linear in the text whatever the pattern; so neither a slip of the operator nor a
hostile body can stop the sensor.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import re2

from sensor.classify.sensitive.kinds import DataKind

SLOTS: Final = (DataKind.CUSTOM_1, DataKind.CUSTOM_2, DataKind.CUSTOM_3, DataKind.CUSTOM_4)
MAX_PATTERN_CHARACTERS: Final = 500
_MEMORY_BYTES: Final = 1 << 20  # Of one compiled pattern.

CustomFinder = Callable[[str], set[DataKind]]


def compile_classes(patterns: Sequence[str]) -> CustomFinder | None:
    """A finder of the patterns, the first as CUSTOM_1 and so on; None without any. Raises ValueError with a sentence
    that names the pattern and what is wrong with it."""
    if not patterns:
        return None
    if len(patterns) > len(SLOTS):
        raise ValueError(f"there are {len(patterns)} custom data classes; at most {len(SLOTS)} are kept apart")
    compiled = [(kind, _compile(pattern)) for kind, pattern in zip(SLOTS, patterns, strict=False)]
    return lambda text: {kind for kind, pattern in compiled if pattern.search(text)}


def _compile(pattern: str) -> Any:
    if not 0 < len(pattern) <= MAX_PATTERN_CHARACTERS:
        raise ValueError(f"the custom data class {pattern[:40]!r} has {len(pattern)} characters; give 1 to 500")
    options = re2.Options()
    options.max_mem = _MEMORY_BYTES
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        raise ValueError(f"the custom data class {pattern!r} is no pattern of RE2 ({error}); correct it") from None
