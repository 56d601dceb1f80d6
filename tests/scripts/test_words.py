"""Words in added text that have a better one."""

import subprocess
from pathlib import Path

import pytest

from scripts.words import LIST, extract_text, find_base, find_hits, find_words

_IDENTITY = ("-c", "user.name=a", "-c", "user.email=a@example.org")


def commit(root: Path, message: str = "a") -> str:
    """Commits everything; the commit's hash."""
    subprocess.run(["git", "add", "."], cwd=root, check=True)
    subprocess.run(["git", *_IDENTITY, "commit", "-qm", message], cwd=root, check=True)
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository whose first commit holds a page with an old word."""
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/page.md").write_text("# Page\n\nThe sensor tells the collector.\n")
    commit(tmp_path)
    return tmp_path


def list_hits(root: Path, base: str = "HEAD") -> list[tuple[str, int, str]]:
    return [(hit.path, hit.line, hit.word) for hit in find_hits(base, root)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Nobody was told; the count is exact.", ["told"]),
        ("Told at once", ["Told"]),
        ("the kernel is taught a route and the head comes up", ["taught", "comes up"]),
        ("Whom the detectors judged", ["judged"]),
        ("a host that is none", ["is none"]),
        ("if there is none", []),
        ("the status is None", []),
        ("who came up with it", []),
        ("read up to the limit: bytes sent up to the reset", []),
        ("foretold, retold, intelligent, desktop", ["foretold"]),
        ("the service desk and the help desk", []),
    ],
)
def test_words_are_found_whole_and_in_their_meaning(text: str, words: list[str]) -> None:
    assert [word for word, _ in find_words(text)] == words


def test_a_hit_names_file_line_word_and_what_to_write(checkout: Path) -> None:
    (checkout / "docs/new.md").write_text("# New\n\nIt shows today's figures.\n")
    assert [str(hit) for hit in find_hits("HEAD", checkout)] == ['docs/new.md:3: "today\'s": write current']


def test_added_lines_count_committed_or_not(checkout: Path) -> None:
    base = subprocess.run(["git", "rev-parse", "HEAD"], cwd=checkout, capture_output=True, text=True, check=True)
    page = checkout / "docs/page.md"
    page.write_text(page.read_text() + "It is told.\n")
    commit(checkout)
    page.write_text(page.read_text() + "It is judged.\n")
    assert list_hits(checkout, base.stdout.strip()) == [("docs/page.md", 4, "told"), ("docs/page.md", 5, "judged")]


def test_moved_lines_do_not_count(checkout: Path) -> None:
    subprocess.run(["git", "mv", "docs/page.md", "docs/other.md"], cwd=checkout, check=True)
    (checkout / "module.py").write_text('def send() -> None:\n    """The sensor tells the collector."""\n')
    assert list_hits(checkout) == []


def test_recorded_and_generated_files_do_not_count(checkout: Path) -> None:
    for name in ("tests/data/a.md", "proto/gen/a.py", LIST):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text("# It is told.\n")
    assert list_hits(checkout) == []


def test_python_text_is_comments_strings_of_several_words_and_names_of_tests() -> None:
    source = '''"""First line.

It tells."""
tell = {"told": 1}  # Nobody tells.
print(f"{tell['told']} was told", r"taught")


def test_told_apart() -> None:
    """`tell` sends."""
'''
    texts = extract_text("a.py", source)
    assert {line: [word for word, _ in find_words(text)] for line, text in texts.items() if [*find_words(text)]} == {
        3: ["tells"],
        4: ["tells"],
        5: ["told"],
        8: ["told"],
    }


def test_a_file_that_is_not_python_has_no_text() -> None:
    assert extract_text("a.py", "'''told\n") == {}


def test_code_and_targets_of_links_are_not_text_of_a_page() -> None:
    source = "[a](b.md#what-is-told) `told`\n\n```\ntold\n```\n\n    told\n\n- told\n"
    texts = extract_text("a.md", source)
    assert [line for line, text in texts.items() if [*find_words(text)]] == [9]


def test_expressions_and_unread_attributes_are_not_text_of_a_template() -> None:
    source = '<p class="told">{{ told }}{% if told %}</p>\n<p title="told">a</p>\n'
    texts = extract_text("a.html", source)
    assert [line for line, text in texts.items() if [*find_words(text)]] == [2]


def test_the_check_begins_where_the_list_was_added_or_at_a_later_commit_that_landed(checkout: Path) -> None:
    first = subprocess.run(["git", "rev-parse", "HEAD"], cwd=checkout, capture_output=True, text=True, check=True)
    (checkout / ".ci").mkdir()
    landed = checkout / ".ci/landed"
    landed.write_text(first.stdout)
    assert find_base(checkout) == first.stdout.strip()
    (checkout / LIST).parent.mkdir()
    (checkout / LIST).write_text("WORDS = ()\n")
    added = commit(checkout)
    assert find_base(checkout) == added
    (checkout / "docs/page.md").write_text("# Page\n")
    later = commit(checkout)
    assert find_base(checkout) == added
    landed.write_text(later)
    assert find_base(checkout) == later
    landed.write_text("0123456789abcdef0123456789abcdef01234567")
    assert find_base(checkout) == added


def test_without_git_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    assert find_base(tmp_path) is None
