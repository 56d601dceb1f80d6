"""The kernel's reader of response heads, compiled in user space: what it reads is what the byte machine reads."""

from hypothesis import given, settings
from hypothesis import strategies as st

from sensor.ebpf.http1_states import ParseFlag
from tests.bpf.head_reader import ENDS, REFUSED, TOKEN, VALUE, Frame, Reader, frame, read

__all__ = ["frame", "read"]

_answer_line = st.one_of(
    st.tuples(TOKEN, st.sampled_from([b":", b": "]), VALUE).map(b"".join),
    st.sampled_from(
        [
            *(b"Content-Length: 5", b"content-length:0", b"Content-Length: 123456789012", b"Content-Length:  12345678"),
            *(b"CONTENT-LENGTH: 000000000000012", b"Transfer-Encoding: chunked", b"transfer-encoding:CHUNKED"),
            *(
                b"Content-LengthX: 5",
                b"Content-Length : 5",
                b"Content-Length: 5, 5",
                b"Content-Length: 5 ",
                b"Content-Length:",
            ),
            *(
                b"Transfer-Encoding: gzip",
                b"Transfer-Encoding: gzip, chunked",
                b"Transfer-Encoding : chunked",
                b"nocolon",
            ),
            *(b" folded: 5", b"\tContent-Length: 7", b"content", b"transfer-", b"Content\rLength: 9", b"c", b"t"),
        ]
    ),
)
_status_line = st.sampled_from(
    [
        *(b"HTTP/1.1 200 OK", b"HTTP/1.0 404", b"HTTP/1.1 100 ", b"HTTP/1.1 999 x y z", b"HTTP/1.9 204\tq"),
        *(b"HTTP/1.1 2000", b"HTTP/1.1  200 OK", b"HTTP/1.1 20 OK", b"HTTP/2 200 OK", b"http/1.1 200 OK"),
        *(b"HTTP/1.1\t200", b"HTTP/1.1 2x0"),
    ]
)


@settings(max_examples=400, deadline=None)
@given(
    answers=st.lists(
        st.tuples(
            _status_line,
            st.lists(_answer_line, max_size=7),
            st.sampled_from([b"\r\n", b"\r\n", b"\n"]),
            st.binary(max_size=30),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_response_heads(read: Reader, frame: Frame, answers: list[tuple[bytes, list[bytes], bytes, bytes]]) -> None:
    """What is read is what the machine reads; what is plain is read."""
    heads = [end.join([line, *lines, b"", b""]) + body for line, lines, end, body in answers]
    for head, told, (line, lines, _, _) in zip(heads, read(heads, True), answers, strict=True):
        done, _, action, status, flags, length = frame(head, "RESPONSE")
        if told.verdict == REFUSED:
            names = [one.lower() for one in lines if one.lower().startswith((b"content-length", b"transfer-encoding"))]
            assert names or action not in ENDS or line not in (b"HTTP/1.1 200 OK", b"HTTP/1.0 404"), head
            continue
        assert action in ENDS, head
        assert (told.size, told.method) == (done, status), head
        assert told.flags | ParseFlag.CONFIRMED == flags & ~ParseFlag.AMBIGUOUS, head
        if flags & ParseFlag.LENGTH:
            assert told.length == length, head
