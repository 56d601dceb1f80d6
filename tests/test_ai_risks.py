"""docs/reference/ai-risks.md names the cases of the lab that show each item of OWASP's lists, and no others."""

import re
from pathlib import Path

from tests.e2e.ai_lab import CASES

PAGE = Path(__file__).parents[1] / "docs/reference/ai-risks.md"
LISTS = (("MCP", ":2025"), ("ASI", ""), ("LLM", ":2025"))


def read_rows() -> dict[str, tuple[str, set[str]]]:
    """What is seen of each item, and its cases."""
    rows = re.findall(
        r"^\| ((?:MCP|ASI|LLM)[\d:]+) [^|]*\| ([^|]*) \|[^|]*\| ([^|]*) \|$", PAGE.read_text(), re.MULTILINE
    )
    return {item: (seen, set(re.findall(r"`(\w+)`", cases))) for item, seen, cases in rows}


def test_the_page_names_all_items_with_the_cases_of_the_lab() -> None:
    rows = read_rows()
    assert set(rows) == {f"{name}{number:02}{year}" for name, year in LISTS for number in range(1, 11)}
    for item, (_, cases) in rows.items():
        assert cases == {name for name, case in CASES.items() if item in case.items}, item


def test_nothing_is_played_of_what_is_not_seen() -> None:
    assert all(not cases for seen, cases in read_rows().values() if seen == "not seen")
