"""Makes text that others choose printable: names of cgroups, units, containers, programs, sockets and Pods, and what a
collector says.

Linux takes any bytes but a slash and a zero byte as a name. Whoever may make a cgroup, a file or a socket chooses them.
So each reader of names makes them printable where they enter, with the functions here only. Bytes that are not UTF-8
become escapes. So do characters that do not print: controls, line ends, and marks that turn the direction of text.

Limit: a name with such a byte and a name that spells the same escape become one name. A reader that opens a path again
keeps its bytes for that. Pure.
"""

from typing import Final

# As the collector bounds names, so that no name makes it refuse a batch. A cgroup or a file has at most 255 bytes.
NAME_BYTES_MAX: Final = 253
# Why a collector refuses something.
SENTENCE_BYTES_MAX: Final = 1_000


def make_printable(name: bytes | str, bytes_max: int = NAME_BYTES_MAX) -> str:
    """The name in printable characters, at most `bytes_max` bytes of UTF-8; `\\xff` stands for the byte 0xff and
    `\\x1b` for an escape character. Text is what JSON held, never text that `os.fsdecode` made. 0.2 us."""
    text = name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else name
    if not text.isprintable():
        text = "".join(one if one.isprintable() else _escape(one) for one in text[:bytes_max])
    if 4 * len(text) <= bytes_max:
        return text
    return text[:bytes_max].encode()[:bytes_max].decode("utf-8", "ignore")


def make_path_printable(path: bytes) -> str:
    """The path with each of its names made printable."""
    return "/".join(map(make_printable, path.split(b"/")))


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
