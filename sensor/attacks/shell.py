"""Commands as a shell reads them, where quoting hides them: `c'a't`, `w^hoami`, `ca\\t`, `cat$u /etc//passwd`. Pure."""

import re
from typing import Final

_QUOTING: Final = str.maketrans("", "", "\"'\\^")
_HIDING: Final = ("'", '"', "\\", "^", "$", "``", "//", "  ")  # One of these is in whatever is hidden so.
_EMPTY: Final = re.compile(r"\$[@*!]|``|\$[a-z_]\w?(?![\w{(])", re.IGNORECASE)  # Variables without a value, too.
_BLANKS: Final = re.compile(r"\s{2,}|\$\{?IFS\}?", re.IGNORECASE)


def strip_quoting(text: str) -> str | None:
    """`text` without quotes, escapes, empty variables and repeated blanks; None where there were none."""
    if not any(mark in text for mark in _HIDING):
        return None
    bare = text.translate(_QUOTING)
    if "$" in bare or "``" in bare:
        bare = _EMPTY.sub("", _BLANKS.sub(" ", bare))
    if "  " in bare:
        bare = " ".join(word for word in bare.split(" ") if word)
    while "//" in bare:
        bare = bare.replace("//", "/")
    return bare if bare != text else None
