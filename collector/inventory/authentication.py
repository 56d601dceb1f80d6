"""Names of the wire's authentication bits (proto AuthenticationKind): reads a bit set, gives kinds a person and a
filter can name."""

NAMES: dict[int, str] = {
    1: "basic",
    2: "bearer_opaque",
    3: "bearer_jwt",
    4: "jwt_custom_header",
    5: "api_key_header",
    6: "api_key_query",
    7: "api_key_cookie",
    8: "cookie_session",
    9: "aws_sigv4",
    10: "aws_sigv4_query",
    11: "digest",
    12: "hmac_signature",
    13: "http_message_signature",
    14: "oauth1",
    15: "negotiate",
    16: "mtls_forwarded",
    17: "other",
}
# What is weak about a credential that another bit names.
WEAKNESSES: dict[int, str] = {
    19: "jwt_unsigned",
    20: "jwt_known_key",
    21: "jwt_no_expiry",
    22: "jwt_long_lived",
}
NUMBERS: dict[str, int] = {name: number for number, name in NAMES.items()}


def name_kinds(bits: int) -> tuple[str, ...]:
    """Kinds in a bit set, in the wire's order; a bit this collector does not know yet is `kind_N`, never lost."""
    return tuple(
        NAMES.get(number, f"kind_{number}")
        for number in range(1, 32)
        if bits >> number & 1 and number not in WEAKNESSES
    )


def count_by_kind(calls_by_bits: dict[int, int]) -> dict[str, int]:
    """Calls by kind; a call with two credentials counts under both, one without any under `none`. Most calls first."""
    counts: dict[str, int] = {}
    for bits, calls in calls_by_bits.items():
        for name in name_kinds(bits) or ("none",):
            counts[name] = counts.get(name, 0) + calls
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def count_weaknesses(calls_by_bits: dict[int, int]) -> dict[str, int]:
    """Calls by what is weak about their credentials, most first."""
    counts: dict[str, int] = {}
    for bits, calls in calls_by_bits.items():
        for number, name in WEAKNESSES.items():
            if bits >> number & 1:
                counts[name] = counts.get(name, 0) + calls
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
