"""Only a head that any two readers read alike is taught."""

import pytest

from sensor.offload.name_table import HEAD_BYTES_MAX, read_plain_head


def make(target: bytes = b"/", *lines: bytes, host: bytes = b"Host: a") -> bytes:
    return b"\r\n".join((b"GET " + target + b" HTTP/1.1", host, *lines)) + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("target", "segments", "has_slash", "query", "path"),
    [
        (b"/", (), False, b"", "/"),
        (b"/a/b", (b"a", b"b"), False, b"", "/a/b"),
        (b"/a/", (b"a",), True, b"", "/a/"),
        (b"/a?b=%20&c", (b"a",), False, b"b=%20&c", "/a"),
        (b"/?x", (), False, b"x", "/"),
    ],
)
def test_targets(target: bytes, segments: tuple[bytes, ...], has_slash: bool, query: bytes, path: str) -> None:
    head = read_plain_head(make(target))
    assert head is not None
    assert (head.method, head.segments, head.has_slash, head.query) == (b"GET", segments, has_slash, query)
    assert head.path == path
    assert "a" not in repr(head).replace("redacted", "").replace("Plain", "").replace("Head", "")


@pytest.mark.parametrize(
    "target",
    [b"a", b"*", b"http://a/b", b"/a%20b", b"/a#b", b"/a;b", b"//a", b"/a//b", b"/a/../b", b"/./a", b"/a\xc3", b"/?#",
     b"/a b"],
)  # fmt: skip
def test_what_is_left_to_user_space(target: bytes) -> None:
    assert read_plain_head(make(target)) is None


@pytest.mark.parametrize("method", [b"", b"get", b"\nGET", b"\r\nGET", b"G\tT", b"PROPPATCH", b"G3T"])
def test_methods_that_the_kernel_does_not_read(method: bytes) -> None:
    assert read_plain_head(method + make()[3:]) is None


@pytest.mark.parametrize(
    "line", [b" folded", b"no colon", b"white space : x", b"host: b", b"HOST: b", b"a\nb: x", b": empty"]
)
def test_lines_that_may_be_read_otherwise(line: bytes) -> None:
    assert read_plain_head(make(b"/", line)) is None


def test_one_host_is_needed() -> None:
    assert read_plain_head(make(host=b"X: y")) is None


def test_names_are_in_lower_case_and_in_order() -> None:
    head = read_plain_head(make(b"/", b"X-A: 1", b"accept:2"))
    assert head is not None
    assert head.header_names == (b"host", b"x-a", b"accept")


def test_a_head_is_whole_and_bounded() -> None:
    assert read_plain_head(make()[:-1]) is None
    whole = make(b"/", b"a: " + b"x" * HEAD_BYTES_MAX)
    excess = len(whole) - HEAD_BYTES_MAX
    assert read_plain_head(make(b"/", b"a: " + b"x" * (HEAD_BYTES_MAX - excess))) is not None
    assert read_plain_head(make(b"/", b"a: " + b"x" * (HEAD_BYTES_MAX - excess + 1))) is None
