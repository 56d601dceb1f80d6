"""The cases of HTTP/1 framing that real servers show seldom, each as a script and the calls it holds (RFC 9112, RFC
9110).
"""

from tests.e2e.scripted import Client, Expected, Reset, Script, Server

GET = b"GET /orders/7 HTTP/1.1\r\nHost: shop.example\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
CHUNKED_OK = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n3;x=y\r\nabc\r\n0\r\nExpires: 0\r\n\r\n"
)
CREATED = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"


def post(body: bytes, *headers: bytes) -> bytes:
    """A POST with a length."""
    lines = [b"POST /orders HTTP/1.1", b"Host: shop.example", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def get(status: int = 200, request: bytes = GET, response: bytes = OK, method: str = "GET") -> Expected:
    """The usual call on an order."""
    return Expected(
        method=method, path="/orders/7", status=status, request_bytes=len(request), response_bytes=len(response)
    )


def made(request: bytes, response: bytes = CREATED, status: int = 201) -> Expected:
    """The usual POST."""
    return Expected(
        method="POST", path="/orders", status=status, request_bytes=len(request), response_bytes=len(response)
    )


HEAD_REQUEST = GET.replace(b"GET", b"HEAD")
HEAD_RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"
NOT_MODIFIED = b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\nContent-Length: 100\r\n\r\n'
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
TOO_LARGE = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
GET_10 = b"GET /orders/7 HTTP/1.0\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n" + b"x" * 3_000
EXPECTING = post(b"", b"Expect: 100-continue").replace(b"Content-Length: 0", b"Content-Length: 11")
CHUNKED_POST = (
    b"POST /orders HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nabcdef\r\n0\r\n\r\n"
)
LOOKS_LIKE_A_REQUEST = b"GET /trap HTTP/1.1\r\nHost: trap.example\r\n\r\n"
LOOKS_LIKE_A_RESPONSE = b"HTTP/1.1 500 Trap\r\nContent-Length: 0\r\n\r\n"
TRAP_POST = post(LOOKS_LIKE_A_REQUEST)
TRAP_RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(LOOKS_LIKE_A_RESPONSE) + LOOKS_LIKE_A_RESPONSE
UPGRADE = GET.replace(b"\r\n\r\n", b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
LONG_GET = GET.replace(b"\r\n\r\n", b"\r\nCookie: a=" + b"c" * 12_000 + b"\r\n\r\n")
PURGE = GET.replace(b"GET", b"PURGE")
ODD_METHOD = GET.replace(b"GET", b"X-FETCH!")

SCRIPTS = (
    Script(name="plain", steps=(Client(GET), Server(OK)), expected=(get(),)),
    Script(
        name="http_1_0_until_close",
        steps=(Client(GET_10), Server(UNTIL_CLOSE)),
        expected=(get(200, GET_10, UNTIL_CLOSE),),
    ),
    Script(
        name="chunked_both_ways",
        steps=(Client(CHUNKED_POST), Server(CHUNKED_OK), Client(GET), Server(OK)),
        expected=(made(CHUNKED_POST, CHUNKED_OK, 200), get()),
    ),
    Script(
        name="continue_100",
        steps=(Client(EXPECTING), Server(CONTINUE), Client(b"hello world"), Server(CREATED), Client(GET), Server(OK)),
        expected=(made(EXPECTING + b"hello world", CONTINUE + CREATED), get()),
    ),
    Script(
        name="early_hints_103", steps=(Client(GET), Server(HINTS), Server(OK)), expected=(get(response=HINTS + OK),)
    ),
    Script(
        name="head_has_no_body",
        steps=(Client(HEAD_REQUEST), Server(HEAD_RESPONSE), Client(GET), Server(OK)),
        expected=(get(request=HEAD_REQUEST, response=HEAD_RESPONSE, method="HEAD"), get()),
    ),
    Script(
        name="not_modified_has_no_body",
        steps=(Client(GET), Server(NOT_MODIFIED), Client(GET), Server(OK)),
        expected=(get(304, response=NOT_MODIFIED), get()),
    ),
    Script(
        name="no_content",
        steps=(Client(GET), Server(NO_CONTENT), Client(GET), Server(OK)),
        expected=(get(204, response=NO_CONTENT), get()),
    ),
    Script(
        name="early_answer",
        steps=(Client(post(b"x" * 5_000)[:-4_000]), Server(TOO_LARGE), Client(b"x" * 4_000)),
        expected=(made(post(b"x" * 5_000), TOO_LARGE, 413),),
    ),
    Script(name="closed_without_answer", steps=(Client(GET),), expected=(get(0, response=b""),)),
    Script(
        name="reset_during_answer",
        steps=(Client(GET), Server(OK.replace(b": 2", b": 9000")), Reset()),
        expected=(get(response=OK.replace(b": 2", b": 9000")),),
    ),
    Script(
        name="switched_protocols",
        steps=(Client(UPGRADE), Server(SWITCH), Client(b"\x81\x82\0\0\0\0hi"), Server(b"\x81\x02hi")),
        expected=(get(101, UPGRADE, SWITCH),),
    ),
    Script(
        name="went_on_after_101",
        steps=(Client(UPGRADE), Server(SWITCH), Client(GET), Server(OK)),
        expected=(get(101, UPGRADE, SWITCH), get()),
    ),
    Script(
        name="bodies_that_look_like_heads",
        steps=(Client(TRAP_POST), Server(TRAP_RESPONSE), Client(GET), Server(OK)),
        expected=(made(TRAP_POST, TRAP_RESPONSE, 200), get()),
    ),
    Script(
        name="body_in_its_own_segment_looks_like_a_head",
        steps=(
            Client(TRAP_POST[: -len(LOOKS_LIKE_A_REQUEST)]),
            Client(LOOKS_LIKE_A_REQUEST),
            Server(TRAP_RESPONSE[: -len(LOOKS_LIKE_A_RESPONSE)]),
            Server(LOOKS_LIKE_A_RESPONSE),
        ),
        expected=(made(TRAP_POST, TRAP_RESPONSE, 200),),
    ),
    Script(
        name="pipelined_answers_in_one_segment",
        steps=(Client(GET + GET + GET), Server(OK + CHUNKED_OK + OK)),
        expected=(get(), get(response=CHUNKED_OK), get()),
    ),
    Script(name="head_longer_than_is_copied", steps=(Client(LONG_GET), Server(OK)), expected=(get(request=LONG_GET),)),
    Script(name="method_purge", steps=(Client(PURGE), Server(OK)), expected=(get(request=PURGE, method="PURGE"),)),
    Script(
        name="method_of_token_form",
        steps=(Client(ODD_METHOD), Server(OK)),
        expected=(get(request=ODD_METHOD, method="X-FETCH!"),),
    ),
    Script(
        name="not_http",
        steps=(Client(b"\x16\x03\x01\x02\x00" + b"\x00" * 200), Server(b"\x15\x03\x03\x00\x02\x02\x28")),
    ),
    Script(
        name="smtp", steps=(Server(b"220 mail.example ESMTP\r\n"), Client(b"EHLO a.example\r\n"), Server(b"250 ok\r\n"))
    ),
)
