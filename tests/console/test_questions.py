"""docs/use/questions.md holds: each question is answered by page, command and API, in three steps or fewer."""

import html
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from typer.testing import CliRunner

from common.main import build_app
from tests.console.answers import DAY, NOTE, OUTSIDE, PATIENT_READER, TODAY, TOKEN, find_id, name_token_owner
from tests.console.seeded import SeededCollector

pytestmark = [pytest.mark.store, pytest.mark.full("collector.ui", "collector.api", "collector.cli")]

PAGE: Final = Path(__file__).parents[2] / "docs/use/questions.md"
QUESTIONS_MIN: Final = 50
UNANSWERED_MAX: Final = 2
STEPS_MAX: Final = 3
SECONDS: Final = 60.0
_ROW: Final = re.compile(r"^\| (\d+) \| (.+?) \| (.+?) \| (.+?) \| (.+?) \|$", re.MULTILINE)
_SPAN: Final = re.compile(r"`([^`]+)`")
# What is not answered yet, and why; the page says the same.
UNANSWERED: Final[dict[int, str]] = {}
# The word of the seeds by which an answer is known, and the endpoint that the question is about.
WORDS: Final[dict[int, str]] = {
    1: "/people/{person_id}",
    2: "/patients/{patient_id}",
    3: PATIENT_READER,
    4: "/cards/{card_id}",
    5: "/setup",
    6: "/find",
    7: "email",
    8: "/shelves/{shelf_id}",
    9: "/shelves/{shelf_id}",
    10: "/offers",
    11: "/feed",
    12: "/sessions",
    13: "/basket",
    14: "/people/{person_id}",
    15: "/ledger",
    16: "/actuator/env",
    17: OUTSIDE,
    18: "api.rates.example",
    19: "/people/{person_id}",
    20: "/people/{person_id}",
    21: "sensitivity",
    22: NOTE,
    23: "/people/{person_id}",
    24: "/keys/{key_id}",
    25: "/users/{user_id}",
    26: "curl",
    27: "10.0.0.9",
    28: "10.0.0.9",
    29: "10.0.0.9",
    30: "10.0.0.9",
    31: "orders",
    32: "payments",
    33: "/orders/{order_id}",
    34: "/slow",
    35: "/broken",
    36: "/orders/{order_id}",
    37: "/people/{person_id}",
    38: "/hidden",
    39: "/hidden",
    40: "/prices",
    41: "/unused",
    42: "10.0.0.66",
    43: "10.4 calls a second",
    44: "10.0.0.66",
    45: "10.0.0.66",
    46: "A load test until Friday.",
    47: "Guesses passwords.",
    48: "10.0.0.66",
    49: "node-2",
    50: "443",
}
# Of what a question asks for by a form, a body or standard input.
SENT: Final[dict[str, dict[str, Any]]] = {
    "/blocks/preview": {"consumer": "address:10.0.0.66"},
    "/consumers/identify": {"value": TOKEN},
}
TOKEN_QUESTION: Final = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One row of the page; the steps of each way are what to ask, in order."""

    number: int
    text: str
    pages: tuple[str, ...]
    commands: tuple[str, ...]
    routes: tuple[str, ...]


def list_questions() -> Iterator[Question]:
    """All rows of the page."""
    for number, text, *cells in _ROW.findall(PAGE.read_text()):
        pages, commands, routes = (tuple(_SPAN.findall(cell)) for cell in cells)
        yield Question(number=int(number), text=text, pages=pages, commands=commands, routes=routes)


QUESTIONS: Final = tuple(list_questions())
ANSWERED: Final = tuple(one for one in QUESTIONS if one.number not in UNANSWERED)


@pytest.fixture(scope="module")
def client(collector: SeededCollector) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {collector.token}"}
    with httpx.Client(base_url=collector.address, headers=headers, timeout=SECONDS) as opened:
        yield opened


@pytest.fixture(scope="module")
def session(collector: SeededCollector) -> Iterator[httpx.Client]:
    """A browser's: signed in, and asks for HTML."""
    headers = {"Accept": "text/html", "Origin": collector.address}
    with httpx.Client(base_url=collector.address, headers=headers, timeout=SECONDS, follow_redirects=True) as opened:
        opened.post("/login", data={"token": collector.token}).raise_for_status()
        yield opened


@pytest.fixture(scope="module")
def fill(collector: SeededCollector) -> Callable[[Question, str], str]:
    """Puts the seeded ids into a step of a question."""

    def put(question: Question, step: str) -> str:
        values = {
            "ENDPOINT": find_id("/patients/{patient_id}" if question.number == 3 else "/people/{person_id}"),
            "CONSUMER": (
                name_token_owner(collector.services) if question.number == TOKEN_QUESTION else collector.consumer
            ),
            "ALERT": collector.alert_id,
            "INCIDENT": collector.incident_id,
            "YESTERDAY": _format_day(TODAY - DAY),
            "TODAY": _format_day(TODAY),
        }
        for name, value in values.items():
            step = re.sub(rf"\b{name}\b", value, step)
        return step

    return put


def _format_day(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


def test_there_are_fifty_questions_and_hardly_one_without_an_answer() -> None:
    assert [one.number for one in QUESTIONS] == list(range(1, QUESTIONS_MIN + 1))
    assert len(UNANSWERED) <= UNANSWERED_MAX
    assert {one.number for one in ANSWERED} == WORDS.keys()
    ways = [way for one in QUESTIONS for way in (one.pages, one.commands, one.routes)]
    assert all(1 <= len(way) <= STEPS_MAX for way in ways)


@pytest.mark.parametrize("question", ANSWERED, ids=lambda one: str(one.number))
def test_a_page_has_the_answer(question: Question, session: httpx.Client, fill: Callable[[Question, str], str]) -> None:
    for step in question.pages:
        answer = session.get(fill(question, step))
        assert answer.status_code == httpx.codes.OK, f"{step}: {answer.status_code} {answer.text[:300]}"
    text = re.sub(r"\s+", " ", html.unescape(re.sub(r"<(?!script>alert)[^>]*>", "", answer.text)))
    assert WORDS[question.number] in text, f"{step}: {text[:3000]}"


@pytest.mark.parametrize("question", ANSWERED, ids=lambda one: str(one.number))
def test_the_api_has_the_answer(question: Question, client: httpx.Client, fill: Callable[[Question, str], str]) -> None:
    for step in question.routes:
        method, _, path = fill(question, step).rpartition(" ")
        answer = client.request(method or "GET", f"/api/v1{path}", json=SENT.get(path))
        assert answer.is_success, f"{step}: {answer.status_code} {answer.text[:300]}"
    assert WORDS[question.number] in answer.text, f"{step}: {answer.text[:3000]}"


@pytest.mark.parametrize("question", ANSWERED, ids=lambda one: str(one.number))
def test_a_command_prints_the_answer(
    question: Question, collector: SeededCollector, fill: Callable[[Question, str], str]
) -> None:
    for step in question.commands:
        program, *arguments = shlex.split(fill(question, step))
        assert program == "apidae"
        environment = {"APIDAE_URL": collector.address, "APIDAE_TOKEN": collector.token}
        done = CliRunner().invoke(build_app(arguments), arguments, env=environment, input=TOKEN)
        assert done.exit_code == 0, f"{step}: {done.output[:500]} {done.exception!r}"
    assert WORDS[question.number] in done.output, f"{step}: {done.output[:3000]}"
