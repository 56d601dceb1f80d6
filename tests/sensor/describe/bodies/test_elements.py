"""XML: values by element and attribute, the number of records, and what is broken, cut or hostile."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor.describe.bodies.documents import ELEMENTS_MAX, Document, read_document, read_xml
from sensor.sensitive.document import find_sensitive
from sensor.sensitive.kinds import DataKind
from tests.work import count_calls

PERSON = "<person id='7'><mail kind='home'>a@example.org</mail><dateOfBirth>1815-12-10</dateOfBirth></person>"
ENVELOPE = (
    "<s:Envelope xmlns:s='http://schemas.xmlsoap.org/soap/envelope/'><s:Header><a/></s:Header><s:Body>"
    "<r:ListResponse xmlns:r='urn:shop'><r:ListResult>{}</r:ListResult></r:ListResponse></s:Body></s:Envelope>"
)


def read(text: str | bytes, *, is_complete: bool = True) -> Document:
    data = text.encode() if isinstance(text, str) else text
    document = read_document(data, "application/xml", is_complete=is_complete)
    assert document is not None
    return document


def kinds(document: Document) -> set[DataKind]:
    return {finding.kind for finding in find_sensitive(document.values)}


@pytest.mark.parametrize(
    ("text", "records"),
    [
        (f"<people total='2'>{PERSON * 2}</people>", 2),
        (f"<p:people xmlns:p='urn:x'><count>3</count><p:all>{PERSON * 3}</p:all></p:people>", 3),
        (ENVELOPE.format(PERSON * 5), 5),
        (ENVELOPE.format(PERSON), 1),
        (PERSON, 1),
        (f"<order><id>1</id><person/>{PERSON}</order>", 1),
        ("<tags><tag>a</tag><tag>b</tag></tags>", 1),
        ("<people/>", 0),
        ("<message>hello</message>", 1),
    ],
)
def test_records(text: str, records: int) -> None:
    assert read(text).records == records


def test_values_have_the_names_of_elements_and_attributes() -> None:
    assert read(PERSON).values == {
        "person": {"id": "7", "mail": {"kind": "home", "mail": "a@example.org"}, "dateOfBirth": "1815-12-10"}
    }
    assert read("<a>x<b>1</b><b/><b>3</b></a>").values == {"a": {"a": "x", "b": ["1", "", "3"]}}


@pytest.mark.parametrize(
    "text",
    [
        "<user dateOfBirth='1815-12-10'/>",
        "<doc><field name='dateOfBirth'>1815-12-10</field></doc>",
        "<user><dateOfBirth><![CDATA[1815-12-10]]></dateOfBirth></user>",
        "<user><dateOfBirth>1815&#45;12-10<!-- born --></dateOfBirth></user>",
        "<a:user><a:dateOfBirth>1815-12-10</a:dateOfBirth></a:user>",  # Of no namespace: broken, and read.
        "<user><name>&nbsp;</name><dateOfBirth>1815-12-10</dateOfBirth></user>",
        "<!DOCTYPE user [<!ENTITY a 'b'>]><user><dateOfBirth>1815-12-10</dateOfBirth></user>",
    ],
)
def test_a_date_of_birth_is_found_wherever_it_stands(text: str) -> None:
    assert DataKind.DATE_OF_BIRTH in kinds(read(text))
    assert DataKind.DATE_OF_BIRTH not in kinds(read(text.replace("dateOfBirth", "updatedAt")))


def test_other_encodings() -> None:
    text = "<?xml version='1.0' encoding='{}'?><user><city>Zürich</city></user>"
    for encoding in ("iso-8859-1", "utf-8", "utf-16"):
        assert read(text.format(encoding).encode(encoding)).values == {"user": {"city": "Zürich"}}


def test_of_a_cut_document_what_came_before_the_cut() -> None:
    document = read(f"<people>{PERSON * 3}<person><dateOfBirth>1816-", is_complete=False)
    assert document.records == 4
    assert isinstance(document.values, list) and document.values[-1] == {"dateOfBirth": ""}


@pytest.mark.parametrize("data", [b"", b"{}", b"plain", b"<", b"\xff\xfe", b"<\x00a\x00/\x00>\x00"])
def test_what_is_no_xml_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        read_document(data, "text/xml", is_complete=True)


@pytest.mark.parametrize(
    "data",
    [
        b"<r>" + b"<a/>" * 60_000 + b"</r>",
        b"<a>" * 30_000 + b"</a>" * 30_000,
        b"<r>" + b"<a b='1' c='2' d='3'/>" * 10_000 + b"</r>",
        b"<!DOCTYPE a [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '" + b"&a;" * 1_000 + b"'>]><r>" + b"&b;" * 9_000 + b"</r>",
    ],
    ids=["flat", "deep", "attributes", "entities"],
)
def test_a_hostile_document_costs_what_a_large_one_does(data: bytes) -> None:
    """Some 25 ms: four calls of functions for each of 60,000 elements."""

    def work() -> None:
        found = read_xml(data, is_complete=True)
        find_sensitive([] if found is None else found.values, max_nodes=ELEMENTS_MAX, max_values=8)

    assert count_calls(work) < 300_000


@given(st.binary(max_size=200) | st.text("<>/a&;'\"= ![]-?").map(str.encode), st.booleans())
def test_raises_nothing_else(data: bytes, is_complete: bool) -> None:
    with contextlib.suppress(ValueError):
        read_document(data, "text/xml", is_complete=is_complete)
