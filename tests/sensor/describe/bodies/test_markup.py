"""Pages and texts: what a label names is a field, and navigation, forms and documentation name nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor.describe.bodies.documents import read_document
from sensor.sensitive.document import find_sensitive


def find_kinds(page: str, media_type: str = "text/html") -> set[str]:
    document = read_document(page.encode(), media_type, is_complete=True)
    assert document is not None
    return {finding.kind.value for finding in find_sensitive(document.values, max_values=8)}


@pytest.mark.parametrize(
    "page",
    [
        '<div id="user">Welcome, <strong>admin</strong>. <a href="/pw">Change password</a> / <form><button>Log out'
        "</button></form></div>",
        "<ul><li>Change password</li><li>Log out</li></ul>",
        "<label>Password:</label> <label>Password confirmation:</label><p>Enter the same password as before.</p>",
        "<label>Password</label><input name='password' type='password' value=''><input type=submit name=password "
        "value='Change password'>",
        "<h2>Password</h2><p>Reset it</p>",
        "<code>/basic-auth/{user}/{passwd}</code> Challenges HTTP Basic Auth.",
        "<li><a href='/hidden'>/hidden-basic-auth/:user/:passwd</a> 404'd BasicAuth.</li>",
        "<dt>Password</dt><dd>Required. At least 8 characters.</dd>",
        "<table><tr><th>Field</th><th>Type</th></tr><tr><td>password</td><td>string</td></tr></table>",
        "<p>Set <code>password</code> to <em>secret</em>, then log in.</p>",
        "<p>password: required</p>",
        "<option>First name</option><option>Last name</option>",
        "<th>First name</th><th>Last name</th><th>Phone</th>",
        "<a>Author</a><a>Next Page</a>",
    ],
)
def test_a_label_is_no_value(page: str) -> None:
    assert find_kinds(page) == set()


@pytest.mark.parametrize(
    ("page", "kinds"),
    [
        ("<tr><th>Password</th><td>hunter2</td></tr>", {"PASSWORD"}),
        ("<dl><dt>Date of birth</dt><dd>1980-02-03</dd></dl>", {"DATE_OF_BIRTH"}),
        ("<td>Password</td><td>x9!kq-77</td>", {"PASSWORD"}),
        ("<b>Password:</b> x9!kq-77", {"PASSWORD"}),
        ("<p>Name: Anna Meier, born: 1980-02-03</p>", {"PERSON_NAME", "DATE_OF_BIRTH"}),
        ("<input name=email value='anna@example.org'><input name=name value='Anna Meier'>", {"EMAIL", "PERSON_NAME"}),
        (
            "<table><thead><tr><th>Id</th><th>Name</th><th>Email</th><th>Street</th></tr></thead><tbody><tr><td>7</td>"
            "<td><a href='/u/7'>Anna Meier</a></td><td>anna@example.org</td><td>Hauptstr. 5</td></tr></tbody></table>",
            {"PERSON_NAME", "EMAIL", "ADDRESS"},
        ),
        (  # A column of boxes has no heading, and the first cell of a row may be one.
            "<table><tr><th><input type=checkbox></th><th>User</th><th>Password</th><th>Born</th></tr><tr><td></td>"
            "<th><a>anna</a></th><td>x9!kq-77</td><td>1980-02-03</td></tr></table>",
            {"PASSWORD", "DATE_OF_BIRTH"},
        ),
        ("<td>pbkdf2_sha256$600000$n8Zr3NnVbK2w$3mJ0XbH2b1sT0oZrH5Qx8C3nF0yKkY2Jq3wB7d1vU0E=</td>", {"PASSWORD"}),
    ],
)
def test_what_a_label_names_is_found(page: str, kinds: set[str]) -> None:
    assert find_kinds(page) == kinds


def test_lines_of_a_text_name_what_is_beside_each_other() -> None:
    assert find_kinds("Name: Anna Meier\nEmail: anna@example.org\n", "text/plain") == {"PERSON_NAME", "EMAIL"}
    assert find_kinds("The password: must be changed.\nPassword: optional", "text/plain") == set()


def test_all_texts_of_a_page_are_looked_at() -> None:
    page = "".join(f"<p>Paragraph {number} of a page that says nothing.</p>" for number in range(400))
    assert find_kinds(page + "<p>Write to anna@example.org</p>") == {"EMAIL"}
    assert find_kinds("word " * 9_000 + "anna@example.org", "text/plain") == {"EMAIL"}


@given(st.text(alphabet="<>/abtdhr \"'=:;&", max_size=300))
def test_no_page_breaks_its_reader(page: str) -> None:
    read_document(page.encode(), "text/html", is_complete=False)
