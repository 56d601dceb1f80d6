"""A name of any bytes is text that can be sent, shown and logged, and one that was so already stays as it is."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sensor.core.printable import NAME_BYTES_MAX, make_path_printable, make_printable

# No slash and no zero byte: what the kernel takes as a name.
names = st.binary(min_size=1, max_size=255).map(lambda name: name.replace(b"/", b"-").replace(b"\0", b"-"))


@given(names | st.text(max_size=2_000))
@example(bytes(one for one in range(1, 256) if one != 0x2F))
@example(b"\xff" * 255)
@example("\U0001f600" * 253)
@example("\ud800.service")
def test_any_name_is_printable_and_bounded(name: bytes | str) -> None:
    text = make_printable(name)
    assert text.isprintable()
    assert len(text.encode()) <= NAME_BYTES_MAX
    assert make_printable(text) == text


@given(names | st.text(max_size=2_000), st.integers(4, 2_000))
def test_a_text_is_as_long_as_it_may_be(name: bytes | str, bytes_max: int) -> None:
    text = make_printable(name, bytes_max)
    assert text.isprintable() and len(text.encode()) <= bytes_max
    assert make_printable("a" * 3_000, bytes_max) == "a" * bytes_max


@given(st.lists(names, max_size=8))
def test_a_path_keeps_its_names_apart(parts: list[bytes]) -> None:
    assert make_path_printable(b"/".join(parts)).split("/") == ([make_printable(part) for part in parts] or [""])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (b"nginx.service", "nginx.service"),
        (b"dev-disk-by\\x2duuid.swap", "dev-disk-by\\x2duuid.swap"),
        ("größe.service".encode(), "größe.service"),
        (b"\xff\xfe\x80.service", "\\xff\\xfe\\x80.service"),
        (b"\x1b[31mred", "\\x1b[31mred"),
        (b"two\nlines\x7f", "two\\nlines\\x7f"),
        ("pay\u202efdp.exe".encode(), "pay\\u202efdp.exe"),
        (b"<svg onload=alert(1)>", "<svg onload=alert(1)>"),
        (b"=cmd|' /C calc'!A0", "=cmd|' /C calc'!A0"),
        (b"a" * 255, "a" * 253),
        (b"\xff" * 250 + b".service", "\\xff" * 63 + "\\"),
    ],
)
def test_what_does_not_print_is_escaped(name: bytes, text: str) -> None:
    assert make_printable(name) == text
