"""What the kernel makes of a header line whose name it was taught (bpf/fields.h, bpf/told.h), in plain Python."""

import re
from collections.abc import Callable

from sensor.kernel import hashes
from sensor.kernel.abi import NameKind

_SIGNED = (b"AWS4-HMAC-SHA256 Credential=", b"Digest username=", b"Signature keyId=")
_WORD = re.compile(rb"[!-~]+")

Hash = Callable[[bytes], int]


def read_line(
    kind: int, line: bytes, profile: int, credential: int, *, name_hash: int, hash_line: Hash, hash_value: Hash
) -> tuple[int, int]:
    """Profile and credential after a line that is neither ignored nor the host's."""
    value = line.partition(b":")[2].strip(b" \t")
    if kind == NameKind.HEADER_PRESENT:
        return hashes.fold(profile, name_hash ^ (not value)), credential
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
        return hashes.fold(profile, name_hash), hash_value(value) or 1
    if is_authorization and value.startswith(_SIGNED):
        return hashes.fold(profile, hash_line(line.partition(b",")[0])), credential
    return hashes.fold(profile, hash_line(line)), credential
