"""Finds what is wrong with a request as a whole: methods, headers and ranges that no honest program sends. Pure.

Servers and proxies are known to read each of these differently, or each evades a check in front of the application.

Sources: IANA's registry of methods, RFC 9110 (ranges, connection), RFC 9112, httpoxy (CVE-2016-5385), rewrite headers
of IIS and Symfony (CVE-2018-14773), subrequests of Next.js (CVE-2025-29927).
"""

import re
from collections.abc import Callable
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from sensor.describe.attacks.classes import AttackClass, Request

_METHODS: Final = frozenset(
    (
        *(
            "ACL",
            "BASELINE-CONTROL",
            "BIND",
            "CHECKIN",
            "CHECKOUT",
            "CONNECT",
            "COPY",
            "DELETE",
            "GET",
            "HEAD",
            "LABEL",
        ),
        *("LINK", "LOCK", "MERGE", "MKACTIVITY", "MKCALENDAR", "MKCOL", "MKREDIRECTREF", "MKWORKSPACE", "MOVE"),
        *("OPTIONS", "ORDERPATCH", "PATCH", "POST", "PRI", "PROPFIND", "PROPPATCH", "PUT", "QUERY", "REBIND", "REPORT"),
        *("SEARCH", "TRACE", "UNBIND", "UNCHECKOUT", "UNLINK", "UNLOCK", "UPDATE", "UPDATEREDIRECTREF"),
        *("VERSION-CONTROL", "PURGE"),
    )
)
_FORBIDDEN: Final = frozenset({"proxy", "x-original-url", "x-rewrite-url", "x-middleware-subrequest"})
_OF_BODIES: Final = frozenset({"content-range", "content-encoding"})  # Of requests that have none.
_JUDGED: Final = _FORBIDDEN | _OF_BODIES | {"range", "request-range", "connection", "content-type"}
_RANGES_MAX: Final = 5  # Programs that page ask for one or two.
_PDF_RANGES_MAX: Final = 62  # Viewers ask for the pages that are looked at.
_SCRIPTED_COOKIE: Final = re.compile(r"\.cookie\b[^=]{0,40};\W*(?:expires|domain)\W*=", re.IGNORECASE)
_TYPE: Final = re.compile(r"[\w!#$&^.+*-]+/[\w!#$&^.+*-]+(?:\s*;.*)?\Z|\s*\Z", re.DOTALL)
_CHARSET: Final = re.compile(r"charset\s*=\s*[\"']?([\w-]*)", re.IGNORECASE)
_CHARSETS: Final = re.compile(
    r"utf-?8|us-ascii|ascii|iso-8859-\d+|latin1|windows-125\d|cp125\d|utf-16(?:le|be)?|gbk|gb2312|gb18030|big5|shift_jis|"
    r"euc-(?:jp|kr)|koi8-[ru]|binary|",
    re.IGNORECASE,
)
_SESSION_NAMES: Final = re.compile(
    r"(?:^|&)((?:[\w.:-]*sess(?:ion)?[\w.:-]*(?:id|token)?|jsessionid|phpsessid|aspsession\w*|asp\.net_sessionid|sid|"
    r"[\w-]+\.sid|cfid|cftoken|cfsid|zenid|cakephp|viewstate|[\w-]+[:.]sess|[\w-]+_login_token|\w+-token))=",
    re.IGNORECASE,
)


class Misconduct(NamedTuple):
    """What was found, and the text that shows it, which is not to leave the node."""

    attack_class: AttackClass
    text: str


def is_judged(name: str) -> bool:
    """Whether a header (lower case) matters here by itself."""
    return name in _JUDGED


def is_method(method: str) -> bool:
    """Whether a method is registered; an empty one is not known, and taken for one."""
    return not method or method in _METHODS


def _find_method(request: Request) -> str:
    return "" if is_method(request.method) else request.method


def _find_header(request: Request) -> str:
    odd = _FORBIDDEN | _OF_BODIES if request.method in ("GET", "HEAD") else _FORBIDDEN
    return next((name for name, _ in request.headers if name in odd), "")


def _find_ranges(request: Request) -> str:
    is_pdf = request.path.lower().endswith(".pdf")
    value = request.get("range") or request.get("request-range")
    return value if value.count(",") >= (_PDF_RANGES_MAX if is_pdf else _RANGES_MAX) else ""


def _find_connection(request: Request) -> str:
    value = request.get("connection")
    if "," not in value:
        return ""
    tokens = [token.strip().lower() for token in value.split(",")]
    return value if len([token for token in tokens if token in ("close", "keep-alive")]) > 1 else ""


def _find_type(request: Request) -> str:
    value = request.get("content-type") or request.content_type
    charsets = _CHARSET.findall(value)
    is_odd = (
        len(charsets) > 1
        or (charsets and not _CHARSETS.fullmatch(charsets[0]))
        or not _TYPE.match(value)
        or ("boundary=" in value.lower() and not value.lower().startswith("multipart/"))
        or value.lower().count("application/") + value.lower().count("text/") > 1
    )
    return value if is_odd else ""


def _find_fixation(request: Request) -> str:
    scripted = _SCRIPTED_COOKIE.search(request.query)  # Split at its semicolon the query's values do not show it.
    if scripted is not None:
        return scripted[0]
    referer = request.get("referer")
    found = _SESSION_NAMES.search(request.query) if referer else None
    if found is None:
        return ""
    own, other = _find_site("//" + request.get("host")), _find_site(referer)
    return found[1] + " " + other if other and own and other != own else ""


def _find_site(url: str) -> str:
    """The last two labels of a host's name, the pages and interfaces of one owner; an address as it is."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return ""
    return host if ":" in host or host[-1:].isdigit() else ".".join(host.split(".")[-2:])


_CHECKS: Final[tuple[tuple[AttackClass, Callable[[Request], str]], ...]] = (
    (AttackClass.PROTOCOL, _find_method),
    (AttackClass.PROTOCOL, _find_header),
    (AttackClass.PROTOCOL, _find_ranges),
    (AttackClass.PROTOCOL, _find_connection),
    (AttackClass.PROTOCOL, _find_type),
    (AttackClass.FIXATION, _find_fixation),
)


def find_misconduct(request: Request) -> Misconduct | None:
    """The first that there is; None where there is nothing."""
    for kind, check in _CHECKS:
        text = check(request)
        if text:
            return Misconduct(kind, text)
    return None
