"""Credentials that are alike for all of their kind but for what tells them apart."""

import json
from base64 import b64encode, urlsafe_b64encode

ALGORITHM = {"alg": "RS256", "typ": "JWT"}


def write_credential(number: int, turn: int) -> str:
    """A line that is alike for all of its kind but for what tells them apart."""
    match number % 4:
        case 0:
            return f"Authorization: Basic {b64encode(f'user{number}:one password'.encode()).decode()}"
        case 1:
            claims = {"iss": "https://issuer.example", "aud": "a" * 300, "sub": f"user-{number}", "exp": turn}
            parts = (urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (ALGORITHM, claims))
            return f"Authorization: Bearer {'.'.join(parts)}.signature{turn}"
        case 2:
            return f"Cookie: theme={'c' * 1_000}; sessionid=abcdef{number:04d}"
    return f"Authorization: Bearer token-{number}-abcdefgh"
