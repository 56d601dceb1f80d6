"""Every kind is found by an example that its issuer's check takes, and not in one that it refuses."""

import pytest

from sensor.describe.bodies.documents import read_document
from sensor.sensitive.document import compile_classes, find_sensitive
from sensor.sensitive.kinds import DATA_CLASSES, DataClass, DataKind

# Kind, name of the field, a value of it, and one that only looks like it. Numbers are the examples of their issuers.
EXAMPLES = (
    ("PASSPORT", "passportNumber", "C01X00T47", "yes"),
    ("DRIVER_LICENSE", "driversLicenseNumber", "D1234567", "none"),
    ("NATIONAL_ID", "nationalId", "8001015009087", "n/a"),
    ("TAX_ID", "taxId", "12-3456789", "exempt"),
    ("NINO", "nationalInsuranceNumber", "AB123456C", "BG123456C"),
    ("SIN", "sin", "123-456-782", "123-456-783"),
    ("NIR", "nir", "295109912611193", "295109912611194"),
    ("DNI", "dni", "54362315K", "54362315Z"),
    ("CODICE_FISCALE", "note", "RCCMNL83S18D969H", "RCCMNL83S18D969A"),
    ("STEUER_ID", "steuerId", "36574261809", "36554266806"),
    ("BSN", "bsn", "111222333", "111252333"),
    ("PESEL", "pesel", "44051401359", "44051401358"),
    ("PERSONNUMMER", "personnummer", "880320-0016", "880320-0018"),
    ("HETU", "note", "131052-308T", "131052-308U"),
    ("RESIDENT_ID", "note", "360426199101010071", "360426199101010072"),
    ("CURP", "note", "BOXW310820HNERXN09", "BOXW310820HNERXN08"),
    ("PAN", "panNumber", "ACUPA7085R", "7085"),
    ("RRN", "note", "971013-9019902", "971013-9019903"),
    ("GENDER", "gender", "female", ""),
    ("NATIONALITY", "nationality", "Swiss", "7"),
    ("LOCATION", "homeLocation", "47.3769,8.5417", ""),
    ("CARD_SECURITY_CODE", "cvv", "123", "required"),
    ("BANK_ACCOUNT", "bankAccountNumber", "0073914482", "closed"),
    ("BIC", "bic", "AGRIFRPP882", "AGRIFRPP8"),
    ("ROUTING_NUMBER", "routingNumber", "111000025", "111000024"),
    ("SALARY", "salary", 64_000, 0),
    ("CRYPTO_ADDRESS", "walletAddress", "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq", "none"),
    ("MEDICAL_RECORD", "mrn", "MRN-448812", "none"),
    ("DIAGNOSIS", "diagnosisCode", "E11.9", ""),
    ("MEDICATION", "medication", "metformin 500 mg", ""),
    ("BLOOD_TYPE", "bloodType", "AB+", "type"),
    ("HEALTH_INSURANCE", "healthInsuranceNumber", "A123456780", "none"),
    ("NHS_NUMBER", "nhsNumber", "943-476-5870", "943-476-5871"),
    ("API_KEY", "clientSecret", "5e4d3c2b1a0f9e8d7c6b", "********"),
    ("GITLAB_TOKEN", "note", "glpat-a1B2c3D4e5F6g7H8i9J0", "glpat-short"),
    ("CONNECTION_STRING", "note", "mongodb+srv://app:hunter2@db.example/app", "mongodb://db.example/app"),
    ("ACCESS_TOKEN", "refreshToken", "Zx81kQpL0vN4tRy7", "none"),
    ("MAC_ADDRESS", "note", "00:00:5e:00:53:01", "00:00:5e:00:53"),
    ("STACK_TRACE", "note", "at com.shop.Search.run(Search.java:41)", "meet at noon (12:00) at the river"),
    ("DATABASE_ERROR", "note", "ORA-00942: table or view does not exist", "an error in your order"),
)


@pytest.mark.parametrize(("kind", "name", "value", "other"), EXAMPLES, ids=[example[0] for example in EXAMPLES])
def test_found_and_not_found(kind: str, name: str, value: object, other: object) -> None:
    assert kind in {finding.kind for finding in find_sensitive({name: value})}
    assert kind not in {finding.kind for finding in find_sensitive({name: other})}


def test_every_kind_has_an_example() -> None:
    """Those up to 19 have theirs in test_sensitive.py."""
    named = {kind for kind, *_ in EXAMPLES}
    told = [kind for kind in DataKind if DATA_CLASSES[kind] is not DataClass.CUSTOM]
    assert {kind.value for kind in told[19:]} == named
    assert len(told) == 59


@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        ("text/html", "<p>Hi</p><table><tr><th>Date of birth</th><td>1815-12-10</td></tr></table>"),
        ("text/html", "<form><input type=hidden name='dateOfBirth' value='1815-12-10'></form>"),
        ("application/xml", "<a:person><a:dateOfBirth>1815-12-10</a:dateOfBirth></a:person>"),
        ("text/plain", "name: x\ndate of birth: 1815-12-10\n"),
    ],
)
def test_values_of_text_and_markup_are_named_by_what_stands_before(media_type: str, body: str) -> None:
    document = read_document(body.encode(), media_type, is_complete=True)
    assert document is not None
    assert DataKind.DATE_OF_BIRTH in {finding.kind for finding in find_sensitive(document.values)}


def test_a_script_is_no_text_of_a_page() -> None:
    document = read_document(b"<script>var mail = 'a@example.org'</script><p>x</p>", "text/html", is_complete=True)
    assert document is not None and find_sensitive(document.values) == []


def test_classes_of_your_own() -> None:
    finder = compile_classes((r"EMP-[0-9]{6}", r"^PRJ"))
    found = {one.kind for one in find_sensitive({"note": "ask EMP-739144", "code": "PRJ-1"}, custom=finder)}
    assert found == {DataKind.CUSTOM_1, DataKind.CUSTOM_2}
    assert compile_classes(()) is None


@pytest.mark.parametrize("patterns", [("(",), ("",), ("a",) * 5, ("x" * 501,)])
def test_what_is_no_pattern_is_one_sentence(patterns: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="custom data class"):
        compile_classes(patterns)
