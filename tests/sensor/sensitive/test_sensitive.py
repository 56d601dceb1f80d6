"""Sensitive data by the form of values and by the names of fields. Every number here is made up, only well formed."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor.sensitive.document import MAX_DEPTH, Finding, find_sensitive
from sensor.sensitive.kinds import DATA_CLASSES, DataKind, Prose, Text
from sensor.sensitive.values import find_kinds

KEY = "k_live_" + "4eC39HqLyjWDarjtT1zdp7dc"


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("write to ana@example.org today", {"EMAIL"}),
        ("a@xn--d1acufc.xn--p1ai", {"EMAIL"}),
        ("left-pad@4.11.1", set()),
        ("nginx@sha256:a3cce64da3a73ed919b46892", set()),
        ("4111 1111 1111 1111", {"CREDIT_CARD"}),
        ("3782-822463-10005", {"CREDIT_CARD"}),
        ("c4 1-11 1-1-1 1 1 1 1 1 1 1 1 1", set()),  # Numbers of a drawing.
        ("4111-1111 1111-1111", set()),
        ("4111 1111 1111 1112", set()),
        ("1701250727677379", set()),  # Microseconds since 1970.
        ("GB82 WEST 1234 5698 7654 32", {"IBAN"}),
        ("GB83 WEST 1234 5698 7654 32", set()),
        ("note: 123-45-6789", {"SSN"}),
        ("900-45-6789", set()),
        ("79-228-5432", set()),
        ("529.982.247-25", {"CPF"}),
        ("529.982.247-26", set()),
        ("2341 2341 2346", {"AADHAAR"}),
        ("2341 2341 2345", set()),
        ("192.0.2.17", {"IP_ADDRESS"}),
        ("2001:db8::1:2:3:4", {"IP_ADDRESS"}),
        ("11.19.3341.547", set()),
        ("1.3.6.1.4.1.2678", set()),
        ("+44 20 7946 0958", {"PHONE"}),
        ("(0201) 555 0123", {"PHONE"}),
        ("1735412300", set()),  # Seconds since 1970.
        ("s" + KEY, {"STRIPE_KEY"}),
        ("p" + KEY, set()),
        ("-----BEGIN EC PRIVATE KEY-----\nMHc", {"PRIVATE_KEY"}),
        ("com.example.user.Payer", set()),
        ("", set()),
    ],
)
def test_value(text, kinds):
    assert {kind.value for kind in find_kinds(text)} == kinds


@pytest.mark.parametrize(
    ("name", "value", "kinds"),
    [
        ("firstName", "Ana", {"PERSON_NAME"}),
        ("file_first_name", "a.txt", set()),
        ("dateOfBirth", "1990-02-03", {"DATE_OF_BIRTH"}),
        ("release_date", "1990-02-03", set()),
        ("adminPassword", "hunter22", {"PASSWORD"}),
        ("password", "********", set()),
        ("password_policy", "strong", set()),
        ("phone", "5550123", {"PHONE"}),
        ("phone", True, set()),
        ("phoneNumber", 5550123456, {"PHONE"}),
        ("street_name", "Main Street", {"ADDRESS"}),
        ("address", "Main Street 5", {"ADDRESS"}),
        ("address", "0x52908400098527886E0F7030069857D2E4169EE7", set()),
        ("mac_address", "00:00:5e:00:53:01", {"MAC_ADDRESS"}),
        ("client_ip", "192.0.2.17", {"IP_ADDRESS"}),
        ("address", "192.0.2.17", {"IP_ADDRESS"}),
        ("email", "ana@example.org", {"EMAIL"}),
        ("description", "Ana", set()),
    ],
)
def test_field(name, value, kinds):
    assert {finding.kind.value for finding in find_sensitive({name: value})} == kinds


def test_elements_of_an_array_are_one_field():
    body = {"users": [{"email": "ana@example.org"}, {"email": "ben@example.org"}], "phones": ["+44 20 7946 0958"]}
    assert find_sensitive(body) == [Finding("$.phones[]", DataKind.PHONE), Finding("$.users[].email", DataKind.EMAIL)]


def test_findings_hold_no_value():
    found = find_sensitive({"note": "card 4111 1111 1111 1111, mail ana@example.org"})
    assert "4111" not in repr(found) and "ana" not in repr(found)


def test_depth_is_bounded():
    body: object = "ana@example.org"
    for _ in range(MAX_DEPTH + 1):
        body = [body]
    assert find_sensitive(body) == []
    assert len(find_sensitive(body[0])) == 1  # type: ignore[index]


def test_every_kind_has_a_class():
    assert set(DATA_CLASSES) == set(DataKind)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=30,
)


@given(JSON)
def test_never_raises(document):
    for finding in find_sensitive(document):
        assert finding.path.startswith("$")


@given(st.text(alphabet="0123456789 +-().@ex:/AGBK_", max_size=300))
def test_number_like_text_never_raises(text):
    assert find_kinds(text) <= set(DataKind)
    assert find_sensitive(json.loads(json.dumps({"x": text}))) == sorted(
        Finding("$.x", kind) for kind in find_kinds(text)
    )


def test_of_one_field_few_values_are_enough() -> None:
    rows = [{"note": "x", "mail": f"u{i}@example.org"} for i in range(50)]
    asked = find_sensitive(rows, max_values=3)
    assert asked == find_sensitive(rows) == [Finding("$[].mail", DataKind.EMAIL)]
    assert find_sensitive(rows, max_nodes=1) == []


@pytest.mark.parametrize("kind", [str, Text, Prose])
def test_json_in_a_text_is_read_wherever_the_text_is_from(kind: type[str]) -> None:
    written = kind('{"mail": "ana@example.org"}')
    assert find_sensitive({"state": written}) == [Finding("$.state.mail", DataKind.EMAIL)]
