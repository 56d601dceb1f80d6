"""Canaries: a value of every class of sensitive data and a credential of every kind, and what would give each away.

Every value is made up, of the form that its issuer's check takes, and occurs nowhere else.
"""

import json
import re
from base64 import b64encode, urlsafe_b64encode
from typing import Any, Final

from sensor.core.calls import AuthenticationKind
from sensor.sensitive.kinds import DataKind


def _encode(part: dict[str, Any]) -> str:
    return urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


JWT: Final = ".".join(
    (
        _encode({"alg": "HS256", "kid": "kanarienschluessel-7391"}),
        _encode({"iss": "https://kanari.vogelhaus.example/r7391", "sub": "kanarienvogel-7391", "aud": "kanari-futter"}),
        "kanariensignatur7391kanariensignatur7391abc",
    )
)
# By class: the field, which names the value where its form does not, and the value.
CANARIES: Final[dict[DataKind, tuple[str, str]]] = {
    DataKind.EMAIL: ("mail", "kanarienvogel.7391@example.org"),
    DataKind.PHONE: ("phone", "+49 30 7391 4482"),
    DataKind.PERSON_NAME: ("fullName", "Kanarienvogel Zwetschge"),
    DataKind.ADDRESS: ("street", "Zwetschgenallee 7391"),
    DataKind.DATE_OF_BIRTH: ("dateOfBirth", "1873-09-14"),
    DataKind.SSN: ("ssn", "536-22-8726"),
    DataKind.AADHAAR: ("aadhaar", "2341 2341 2346"),
    DataKind.CPF: ("cpf", "529.982.247-25"),
    DataKind.IBAN: ("iban", "DE89370400440532013000"),
    DataKind.CREDIT_CARD: ("card", "4111111111111111"),
    DataKind.IP_ADDRESS: ("lastSeenFrom", "2001:db8:7391::4482"),
    DataKind.PASSWORD: ("password", "korrekt-pferd-7391"),
    DataKind.JWT: ("ticket", JWT),
    DataKind.PRIVATE_KEY: ("pem", "-----BEGIN EC PRIVATE KEY-----MHcKanarien7391vogel4482Zwetschge"),
    DataKind.AWS_KEY: ("aws", "AKIAKANARIENVOGEL739"),
    DataKind.GOOGLE_API_KEY: ("google", "AIzaKanarienvogel7391Kanarienvogel4482x"),
    DataKind.GITHUB_TOKEN: ("gh", "ghp_kanarienvogel7391kanarienvogel7391kan"),
    DataKind.SLACK_TOKEN: ("slack", "xoxb-7391-kanarienvogel-4482"),
    DataKind.STRIPE_KEY: ("st", "sk_live_kanarienvogel7391kanari"),
    DataKind.PASSPORT: ("passportNumber", "C73914482"),
    DataKind.DRIVER_LICENSE: ("driversLicenseNumber", "D739144820017"),
    DataKind.NATIONAL_ID: ("nationalId", "8001015009087"),
    DataKind.TAX_ID: ("taxId", "12-7391448207"),
    DataKind.NINO: ("nationalInsuranceNumber", "AB739144C"),
    DataKind.SIN: ("sin", "123-456-782"),
    DataKind.NIR: ("nir", "295109912611193"),
    DataKind.DNI: ("dni", "54362315K"),
    DataKind.CODICE_FISCALE: ("fiscalCode", "RCCMNL83S18D969H"),
    DataKind.STEUER_ID: ("steuerId", "36574261809"),
    DataKind.BSN: ("bsn", "111222333"),
    DataKind.PESEL: ("pesel", "44051401359"),
    DataKind.PERSONNUMMER: ("personnummer", "880320-0016"),
    DataKind.HETU: ("hetu", "131052-308T"),
    DataKind.RESIDENT_ID: ("residentId", "360426199101010071"),
    DataKind.CURP: ("curp", "BOXW310820HNERXN09"),
    DataKind.PAN: ("panNumber", "ACUPA7085R"),
    DataKind.RRN: ("rrn", "971013-9019902"),
    DataKind.GENDER: ("gender", "kanarienhenne"),
    DataKind.NATIONALITY: ("nationality", "Zwetschgenlaendisch"),
    DataKind.LOCATION: ("homeLocation", "47.3769739,8.5417448"),
    DataKind.CARD_SECURITY_CODE: ("cvv", "7391"),
    DataKind.BANK_ACCOUNT: ("accountNumber", "0073914482007"),
    DataKind.BIC: ("bic", "AGRIFRPP882"),
    DataKind.ROUTING_NUMBER: ("routingNumber", "111000025"),
    DataKind.SALARY: ("salary", "73914482.07"),
    DataKind.CRYPTO_ADDRESS: ("walletAddress", "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq"),
    DataKind.MEDICAL_RECORD: ("mrn", "MRN-73914482"),
    DataKind.DIAGNOSIS: ("diagnosis", "Kanarienfieber J67.2"),
    DataKind.MEDICATION: ("medication", "Zwetschgenextrakt 739 mg"),
    DataKind.BLOOD_TYPE: ("bloodType", "AB negative"),
    DataKind.HEALTH_INSURANCE: ("healthInsuranceNumber", "A739144820"),
    DataKind.NHS_NUMBER: ("nhsNumber", "943-476-5870"),
    DataKind.API_KEY: ("clientSecret", "kanari7391vogel4482zwetschge"),
    DataKind.GITLAB_TOKEN: ("gl", "glpat-kanari7391vogel4482zw"),
    DataKind.CONNECTION_STRING: ("dsn", "postgres://kanari:vogel7391@db/app"),
    DataKind.ACCESS_TOKEN: ("refreshToken", "Kanari81kQpL0vN4tRy7"),
    DataKind.MAC_ADDRESS: ("mac", "7a:39:1b:44:82:0c"),
    DataKind.STACK_TRACE: ("trace", "at com.kanari.Vogel7391.run(Zwetschge.java:41)"),
    DataKind.DATABASE_ERROR: ("problem", "ORA-00942: table kanari7391 does not exist"),
    DataKind.CUSTOM_1: ("staff", "EMP-739144"),
}
CUSTOM_CLASS: Final = "EMP-[0-9]{6}"

_OPAQUE: Final = "kanari7391vogel4482zwetschge0d"
_SIGNATURE: Final = "a7391f" * 10 + "4482"
# By kind of credential: a line of the head, or a query.
CREDENTIALS: Final[dict[AuthenticationKind, str]] = {
    AuthenticationKind.BASIC: "Authorization: Basic " + b64encode(b"kanari:vogel7391").decode(),
    AuthenticationKind.BEARER_OPAQUE: f"Authorization: Bearer {_OPAQUE}",
    AuthenticationKind.BEARER_JWT: f"Authorization: Bearer {JWT}",
    AuthenticationKind.JWT_CUSTOM_HEADER: f"X-Auth-Token: {JWT}",
    AuthenticationKind.API_KEY_HEADER: f"X-Api-Key: {_OPAQUE}",
    AuthenticationKind.API_KEY_QUERY: f"?api_key={_OPAQUE}",
    AuthenticationKind.API_KEY_COOKIE: f"Cookie: api_token={_OPAQUE}",
    AuthenticationKind.COOKIE_SESSION: f"Cookie: JSESSIONID={_OPAQUE}",
    AuthenticationKind.AWS_SIGV4: (
        "Authorization: AWS4-HMAC-SHA256 Credential=AKIAKANARIENVOGEL739/20261126/eu/s3/aws4_request, "
        f"SignedHeaders=host, Signature={_SIGNATURE}"
    ),
    AuthenticationKind.AWS_SIGV4_QUERY: f"?X-Amz-Credential=AKIAKANARIENVOGEL739&X-Amz-Signature={_SIGNATURE}",
    AuthenticationKind.DIGEST: (
        f'Authorization: Digest username="kanarienvogel", realm="r", nonce="{_OPAQUE}", response="{_SIGNATURE[:32]}"'
    ),
    AuthenticationKind.HMAC_SIGNATURE: f"X-Hub-Signature-256: sha256={_SIGNATURE}",
    AuthenticationKind.HTTP_MESSAGE_SIGNATURE: f'Signature: keyId="kanarienvogel",signature="{_SIGNATURE}"',
    AuthenticationKind.OAUTH1: (
        f'Authorization: OAuth oauth_consumer_key="kanarienvogel", oauth_token="{_OPAQUE}", '
        f'oauth_signature="{_SIGNATURE}"'
    ),
    AuthenticationKind.NEGOTIATE: "Authorization: Negotiate " + b64encode(b"kanarienvogel7391" * 4).decode(),
    AuthenticationKind.MTLS_FORWARDED: "X-Forwarded-Client-Cert: By=spiffe://kanari/vogel7391;Subject=CN=kanarienvogel",
}  # fmt: skip


def _find_telltales() -> re.Pattern[bytes]:
    """Whole values, and the pieces of nine letters and digits that only they hold."""
    texts = [value for _, value in CANARIES.values()]
    texts += [line.partition(" ")[2] or line.partition("=")[2] for line in CREDENTIALS.values()]
    pieces = {piece for text in texts for piece in re.findall(r"[A-Za-z0-9]{9,}", text)}
    # Words that anything may hold; a code of three digits, which is told by its field alone, is no telltale.
    pieces -= {"AWS4HMACSHA256", "Credential", "SignedHeaders", "Signature", "signature", "Authorization", "JSESSIONID"}
    pieces -= {"oauth", "consumer", "username", "Negotiate"}
    wholes = {text for text in texts if len(text) > len("7391")}
    found = {*wholes, *pieces, "anarienvogel", "wetschge", "vogel7391", "73914482"}
    return re.compile(b"|".join(re.escape(text.encode()) for text in sorted(found)))


TELLTALES: Final = _find_telltales()


def find_canaries(data: bytes) -> list[bytes]:
    """The telltales in some bytes."""
    return TELLTALES.findall(data)
