"""What the kernel makes of a header line whose name it knows (bpf/fields.h, bpf/varying_fields.h, bpf/cookies.h), in
plain Python."""

import re
from collections.abc import Callable

from sensor.core.keyed import fold
from sensor.ebpf import hashes
from sensor.ebpf.abi import NameKind

_SIGNED = (b"AWS4-HMAC-SHA256 Credential=", b"Digest username=", b"Signature keyId=")
_WORD = re.compile(rb"[!-~]+")

Hash = Callable[[bytes], int]

IGNORED_KINDS = (NameKind.HEADER_IGNORED, NameKind.HEADER_QUOTED)
MARKED_KINDS = (NameKind.HEADER_SHAPE, NameKind.HEADER_AGENT)
_PRODUCT = re.compile(rb"[^\x00-\x20/]{0,16}")
_ALWAYS = re.compile(rb"[$'`<\\|]")
_OFTEN = re.compile(rb'["{]|\.\.|%(?:2[2457eE]|3[bBcC]|7[bB]|0)')
_UNFIT = re.compile(rb"^/|[\x00-\x20\x7f()]|%(?:20|[%uUcCeE])|:/")
_TOLD_BYTES = 256  # Of a cookie.
_COMMAND = re.compile(rb"[^;]*;[A-Za-z]{1,7}[^A-Za-z=]", re.DOTALL)


def is_odd_value(line: bytes, *, is_quoted: bool) -> bool:
    """Whether a line of an ignored name has a sign of an attack (bpf/attack_signs.h)."""
    value = line[line.index(b":") :]
    if _ALWAYS.search(value):
        return True
    # Of each word of eight bytes only the first semicolon is looked at.
    words = (value[at : at + 8].find(b";") for at in range(0, len(value), 8))
    semicolons = (8 * number + place for number, place in enumerate(words) if place >= 0)
    commands = any(_COMMAND.match(value[at:] + b"\r") for at in semicolons)
    return not is_quoted and (commands or _OFTEN.search(value) is not None)


def read_line(
    kind: int, line: bytes, profile: int, credential: int, *, name_hash: int, hash_line: Hash, hash_value: Hash
) -> tuple[int, int]:
    """Profile and credential after a line that is neither ignored nor the host's."""
    value = line.partition(b":")[2].strip(b" \t")
    if kind == NameKind.HEADER_PRESENT:
        return fold(profile, name_hash ^ (not value)), credential
    if kind in MARKED_KINDS:
        is_agent = kind == NameKind.HEADER_AGENT
        profile = fold(profile, _name_product(name_hash, value) if is_agent else name_hash)
        is_odd = is_odd_value(line, is_quoted=not is_agent)
        return fold(profile, hash_line(line)) if is_odd else profile, credential
    is_key, is_authorization = kind == NameKind.HEADER_KEY, kind == NameKind.HEADER_AUTHORIZATION
    is_bearer = value[:7].lower() == b"bearer "
    token = value[7:] if is_authorization else value
    if (
        (is_key or is_authorization)
        and not credential
        and is_bearer == is_authorization
        and _WORD.fullmatch(token)
        and len(value) >= 6
        and token[:2] not in (b"ey", b"ew")
        and line.endswith(value)
    ):
        return fold(profile, name_hash), hash_value(value) or 1
    if is_authorization and value.startswith(_SIGNED):
        return fold(profile, hash_line(line.partition(b",")[0])), credential
    return fold(profile, hash_line(line)), credential


def read_cookies(
    line: bytes,
    profile: int,
    credential: int,
    *,
    find_kind: Callable[[bytes], int],
    hash_name: Hash,
    hash_line: Hash,
    hash_value: Hash,
) -> tuple[int, int]:
    """The same after a line of cookies; `find_kind` and `hash_name` are those of names of cookies."""
    for pair in line.partition(b":")[2].split(b";"):
        cookie = pair.lstrip(b" \t")
        name, equals, value = cookie.partition(b"=")
        kind = find_kind(name) if equals else 0
        is_short = len(name) + 1 + len(value) // 8 * 8 <= _TOLD_BYTES
        is_told = kind == NameKind.COOKIE_TOLD and not credential and value and is_short and b"." not in value
        is_odd = any(sign.search(value) for sign in (_ALWAYS, _OFTEN, _UNFIT))
        if is_odd or not (is_told or kind == NameKind.COOKIE_IGNORED):
            profile = fold(profile, hash_line(cookie))
        elif is_told:
            profile, credential = fold(profile, hash_name(name)), hash_value(value) or 1
    return profile, credential


def _name_product(name_hash: int, value: bytes) -> int:
    match = _PRODUCT.match(value)
    product = (match[0] if match else b"").ljust(16, b"\0")
    halves = (int.from_bytes(product[at : at + 8], "little") for at in (0, 8))
    return fold(fold(name_hash, next(halves)), next(halves))


def fold_actor(profile: int, credential: int, client_address: bytes, client_cgroup_id: int) -> int:
    """`actor` of a record, from the profile's hash, the credential's (0: none), and the packed address and the cgroup
    (0: unknown) of the client."""
    own = fold(profile, credential) if credential else profile
    return fold(fold(own, hashes.fold_address(client_address)), client_cgroup_id)
