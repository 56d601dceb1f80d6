"""Recognises a login by what the call does: a secret goes in, and a credential comes out.

The method, the path and the format of the body do not matter. So a login by PUT, by JSON-RPC or by a GraphQL mutation
is one, and so are a token refresh, a registration and a password reset. `find_login` takes both sides of one call that
was served. It gives whether the call is a login, and which of the response's passwords are credentials that it issued.

What resembles a login is not one: the same secret sent back, a password hash, credentials of several records, and a key
that is returned to a caller who sent a key.

Values are compared here and end here.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import chain
from typing import Final
from urllib.parse import parse_qsl

import msgspec

from sensor.core.calls import AuthenticationKind
from sensor.describe.auth.schemes import NO_SESSION_COOKIE_STARTS, QUERY_KEYS, flatten_name
from sensor.sensitive.kinds import DATA_CLASSES, DataClass, DataKind
from sensor.sensitive.names import MAX_NAME_CHARACTERS, find_rule, split_words
from sensor.sensitive.values import find_kinds

# Fields of one body that are looked at: a login is small.
FIELDS_MAX: Final = 256
_NAMES_MAX: Final = 4_096  # Whose words are kept.
_DEPTH_MAX: Final = 8
_VALUE_CHARACTERS_MAX: Final = 8_192
_CREATED: Final = 201
# What a server hands out to who has proved who he is.
ISSUED: Final = frozenset((DataKind.JWT, DataKind.ACCESS_TOKEN, DataKind.API_KEY))
_PERSONAL: Final = frozenset((DataClass.IDENTITY, DataClass.CONTACT, DataClass.FINANCIAL, DataClass.HEALTH))
# Credentials of the head that are exchanged for a token: RFC 6749 section 2.3.1, Docker's token endpoint, Kerberos.
_EXCHANGED: Final = (
    AuthenticationKind.BASIC
    | AuthenticationKind.DIGEST
    | AuthenticationKind.NEGOTIATE
    | AuthenticationKind.MTLS_FORWARDED
)
# Of AuthenticationKind: a credential, or nobody could see whether there was one. Bits above say more of the others.
_CREDENTIALS: Final = 2 * AuthenticationKind.UNKNOWN - 1
# Fields of a request that prove who calls, beside passwords: RFC 6749, 7521, 7636, 8628 and 8693, SAML 2.0, one-time
# codes.
_GRANTS: Final = frozenset(
    (
        "assertion", "client assertion", "authorization code", "code verifier", "device code", "refresh token",
        "subject token", "client secret", "samlresponse", "saml response", "otp", "totp", "passcode", "mfa code",
        "otp code", "one time code", "verification code", "reset token", "reset code", "magic token", "id token",
    )
)  # fmt: skip
# Fields that may prove the same, and are called so elsewhere too: only a credential in the response's body confirms it.
_WEAK_GRANTS: Final = frozenset(
    ("code", "token", "pin", "ticket", "credential", "secret", "secret id", "api secret", "app secret", "key secret")
)
# Passwords, where the whole name is one of these.
_SHORT_PASSWORDS: Final = frozenset(("pass", "pw"))
# Names of methods of JSON-RPC and XML-RPC whose positions hold name and password.
_LOGIN_WORDS: Final = frozenset(("login", "logon", "signin", "authenticate", "auth"))
# Last words of a field that holds what was issued, beside the names of the classifier.
_HANDED: Final = frozenset((word,) for word in ("token", "session", "sessionid", "sid", "ticket", "jwt", "cookie"))
_COOKIE_MIN: Final = 16
# One long word, or a text that is signed: its end is long and random.
_MADE = re.compile(r"\S{8,}\Z|.*[A-Za-z0-9_/+-]{20,}={0,2}\Z", re.DOTALL)
# crypt(5), LDAP (RFC 2307) and the names of frameworks: derived from a password, and no credential by itself.
_HASH = re.compile(r"\$[0-9A-Za-z-]{1,20}\$|\{[A-Z0-9]{3,16}\}|(?:pbkdf2|scrypt|bcrypt|argon2)\w*[$:]")
_TOKEN_HEADER = re.compile(rb"\r\n(?:x-(?:[\w-]+-)?token|authorization):[ \t]*[^\s]{8,}", re.IGNORECASE)
_SET_COOKIE = re.compile(rb"\r\nset-cookie:[ \t]*([^\s=;]+)=([^;\r\n]*)", re.IGNORECASE)
_INLINE = re.compile(r'\b(\w*(?:[Pp]assword|[Pp]asscode|[Pp]wd|[Rr]efreshToken|[Oo]tp))\s*:\s*\\?"([^"\\]{1,512})')


class LoginRequest(msgspec.Struct, frozen=True, gc=False):
    """What one request sent. Private to the node. `values`: of its body; None where none was read."""

    method: str
    query: str
    authentication: int
    values: object

    def __repr__(self) -> str:
        return "LoginRequest(redacted)"


class LoginResponse(msgspec.Struct, frozen=True, gc=False):
    """What came back. Private to the node. `head`: of HTTP/1; empty where it is not known."""

    status_code: int
    head: bytes
    values: object
    kinds: frozenset[DataKind]
    records: int

    def __repr__(self) -> str:
        return "LoginResponse(redacted)"


class Login(msgspec.Struct, frozen=True, gc=False):
    """`has_issued_password`: what the response calls a password is a credential that this call issued."""

    is_login: bool
    has_issued_password: bool = False


NO_LOGIN: Final = Login(False)


class _Sent:
    """Secrets of a request by value."""

    def __init__(self) -> None:
        self.passwords: set[str] = set()
        self.grants: set[str] = set()
        self.weak_grants: set[str] = set()

    @property
    def secrets(self) -> set[str]:
        return self.passwords | self.grants | self.weak_grants

    def add(self, name: str, value: str) -> None:
        words = _join_words(name[:MAX_NAME_CHARACTERS])
        if words in _SHORT_PASSWORDS or _is_password(name, value):
            self.passwords.add(value)
        elif words in _GRANTS:
            self.grants.add(value)
        elif words in _WEAK_GRANTS:
            self.weak_grants.add(value)


@lru_cache(maxsize=_NAMES_MAX)
def _join_words(name: str) -> str:
    """`refreshToken` and `refresh_token` alike as `refresh token`."""
    return " ".join(split_words(name))


def _is_password(name: str, value: str) -> bool:
    """Whether the field of this name holds a password. 0.2 us where the name was met before."""
    rule = find_rule(name)
    return rule is not None and rule.kind is DataKind.PASSWORD and rule.fits(value)


class _Handed:
    """What a response's body holds, by value: credentials by the classifier, what is called one, and passwords."""

    def __init__(self) -> None:
        self.credentials: set[str] = set()
        self.others: set[str] = set()
        self.passwords: set[str] = set()


def find_login(question: LoginRequest, answer: LoginResponse) -> Login:
    """Whether a call logs its caller in, or makes an account or a credential for the caller. Never raises. Cost: 1.5 us
    a field of the request, of sampled calls only."""
    if not 200 <= answer.status_code < 400 or answer.records > 1:
        return NO_LOGIN
    sent = _list_sent(question)
    is_exchanged = bool(question.authentication & _EXCHANGED)
    is_new = answer.status_code == _CREATED and not question.authentication & _CREDENTIALS
    if not (sent.secrets or is_exchanged or is_new):
        return NO_LOGIN
    handed = _list_handed(answer, sent.secrets)
    has_handed = bool(handed.credentials or handed.others)
    if sent.secrets:
        is_password_new = handed.passwords.isdisjoint(sent.secrets) and all(map(_is_issued, handed.passwords))
        has_issued_password = bool(handed.passwords) and is_password_new
        if has_handed or has_issued_password:
            return Login(True, has_issued_password)
        is_proved = bool(sent.passwords or sent.grants)
        is_replaced = bool(sent.passwords) and len(sent.secrets) > 1  # By the old password, or by a code.
        # A caller who proves who it is ends a session or an account, too.
        if is_replaced or (is_proved and (question.method == "DELETE" or _hands_in_head(answer.head))):
            return Login(True)
    if is_exchanged:  # What stands beside a person's data was not issued here.
        return Login(has_handed and not any(DATA_CLASSES[kind] in _PERSONAL for kind in answer.kinds))
    is_made = bool(sent.passwords) or (question.method == "POST" and bool(handed.credentials))
    return Login(is_new and is_made)


def _list_sent(question: LoginRequest) -> _Sent:
    sent = _Sent()
    for name, value in chain(_list_fields(question.values), _list_arguments(question.values)):
        sent.add(name, value)
    for name, value in _read_query(question.query):
        # A key says who calls; only a password logs in.
        if flatten_name(name.encode("utf-8", "replace")) not in QUERY_KEYS or _is_password(name, value):
            sent.add(name, value)
    return sent


def _read_query(query: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(query, max_num_fields=FIELDS_MAX) if query else []
    except ValueError:
        return []


def _list_arguments(values: object) -> Iterator[tuple[str, str]]:
    """What has no field of its own: arguments of a GraphQL document, and positions of a call that is named a login."""
    if not isinstance(values, dict):
        return
    inner = values.get("methodCall")  # XML-RPC.
    fields: dict[object, object] = inner if isinstance(inner, dict) else values
    text = fields.get("query")
    if isinstance(text, str) and "{" in text:
        yield from _INLINE.findall(text[:_VALUE_CHARACTERS_MAX])
    method = fields.get("method", fields.get("methodName"))
    if isinstance(method, str) and not _LOGIN_WORDS.isdisjoint(split_words(method)):
        texts = [value for _, value in _list_fields(fields.get("params"))]
        if len(texts) > 1:  # The password is the last.
            yield "password", texts[-1]


def _list_handed(answer: LoginResponse, sent: set[str]) -> _Handed:
    handed = _Handed()
    for name, value in _list_fields(answer.values):
        kinds, words = _classify(name, value), split_words(name)
        if DataKind.PASSWORD in kinds:
            handed.passwords.add(value)
        elif value in sent:
            continue
        elif not ISSUED.isdisjoint(kinds):
            handed.credentials.add(value)
        elif (words[-1:] in _HANDED or words[-2:] == ("session", "id")) and _is_issued(value):
            handed.others.add(value)
    return handed


def _classify(name: str, value: str) -> set[DataKind]:
    """Kinds of a text, by its form or by the name of its field."""
    rule = find_rule(name)
    kinds = find_kinds(value)
    return kinds | {rule.kind} if rule is not None and rule.fits(value) else kinds


def _is_issued(value: str) -> bool:
    """Whether a text may be a credential that a server made, and not a hash."""
    return bool(_MADE.match(value)) and not _HASH.match(value) and DataKind.PASSWORD not in find_kinds(value)


def _hands_in_head(head: bytes) -> bool:
    """Whether a response sets a cookie that may be a session, or has a token in a header."""
    if _TOKEN_HEADER.search(head):
        return True
    for name, value in _SET_COOKIE.findall(head):
        flat = flatten_name(name)
        is_other = flat.startswith(NO_SESSION_COOKIE_STARTS) or "csrf" in flat or "xsrf" in flat
        if len(value) >= _COOKIE_MIN and not is_other:
            return True
    return False


def _list_fields(values: object) -> Iterator[tuple[str, str]]:
    """Texts with the name of the field that holds them, in order; nothing of a document with too many."""
    pending: list[tuple[str, object, int]] = [("", values, 0)]
    found: list[tuple[str, str]] = []
    while pending:
        name, value, depth = pending.pop()
        if isinstance(value, str):
            found.append((name, value[:_VALUE_CHARACTERS_MAX]))
        elif isinstance(value, dict) and depth < _DEPTH_MAX:
            pending += ((str(key), one, depth + 1) for key, one in reversed(value.items()))
        elif isinstance(value, list) and depth < _DEPTH_MAX:
            pending += ((name, one, depth + 1) for one in reversed(value))
        if len(found) + len(pending) > FIELDS_MAX:
            return
    yield from found
