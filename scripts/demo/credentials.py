"""Makes credentials for demo consumers, at random at each start: they open nothing anywhere."""

import base64
import hashlib
import hmac
import json
import random
import time

LIFE_SECONDS = 3_600


def make_jwt(subject: str, rng: random.Random) -> str:
    """A JWT of issuer `https://login.demo.example` that names `subject`, good for an hour, signed with a key that is
    thrown away."""
    header = _encode(json.dumps({"alg": "HS256", "typ": "JWT"}).encode())
    now = int(time.time())
    said = {"iss": "https://login.demo.example", "sub": subject, "jti": f"{rng.getrandbits(64):016x}"}
    claims = _encode(json.dumps({**said, "iat": now, "exp": now + LIFE_SECONDS}).encode())
    signature = hmac.new(rng.randbytes(32), f"{header}.{claims}".encode(), hashlib.sha256).digest()
    return f"{header}.{claims}.{_encode(signature)}"


def make_key(rng: random.Random) -> str:
    """An opaque key of 40 hex digits."""
    return f"{rng.getrandbits(160):040x}"


def make_uuid(rng: random.Random) -> str:
    """A version 4 UUID."""
    digits = f"{rng.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
