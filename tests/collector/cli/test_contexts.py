"""Which collector a command asks: options before the environment before the context in use."""

import stat
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from collector.cli.commands import register
from collector.cli.contexts import URL, Context, ContextError, Contexts, choose_context, load_contexts, save_contexts

EAST = Context(url="https://east.example", token="t-east", ca_file="/east.pem")
KEPT = Contexts(current="east", by_name={"east": EAST, "west": Context(url="https://west.example")})


def choose(environment: dict[str, str] | None = None, kept: Contexts = KEPT, **options: str) -> Context:
    return choose_context(environment=environment or {}, contexts=kept, **options)  # type: ignore[arg-type]


def test_options_come_before_the_environment_and_that_before_the_context() -> None:
    assert choose(kept=Contexts()).url == URL
    assert choose() == EAST
    assert choose({"APIDAE_CONTEXT": "west"}).url == "https://west.example"
    assert choose({"APIDAE_CONTEXT": "west"}, context="east").url == "https://east.example"
    assert choose({"APIDAE_URL": "http://env"}).url == "http://env"
    assert choose({"APIDAE_URL": "http://env"}, url="http://flag").url == "http://flag"


def test_a_token_and_a_file_of_one_are_one_thing() -> None:
    chosen = choose({"APIDAE_TOKEN": "env"}, token_file="/flag")
    assert (chosen.token, chosen.token_file) == ("", "/flag")
    assert (choose({"APIDAE_TOKEN_FILE": "/env"}).token, choose({"APIDAE_TOKEN_FILE": "/env"}).token_file) == (
        "",
        "/env",
    )


def test_no_collector_gets_the_token_of_another() -> None:
    assert choose(url="http://other.example").token == ""
    assert choose({"APIDAE_URL": "http://other.example"}).ca_file == ""
    assert choose(url="https://east.example/").token == "t-east"
    assert "t-east" not in repr(EAST)


def test_an_unknown_context_names_those_that_are_known() -> None:
    with pytest.raises(ContextError, match=r"no context 'north' \(east, west\)"):
        choose(context="north")


def test_the_file_is_read_as_it_was_written_and_only_by_its_user(tmp_path: Path) -> None:
    path = tmp_path / "made" / "contexts.toml"
    odd = Context(url='http://"\\\n\u00e9', token="\x01=[x]")
    save_contexts(Contexts(current='a "b"', by_name={'a "b"': odd, "east": EAST}), path)
    assert load_contexts(path) == Contexts(current='a "b"', by_name={'a "b"': odd, "east": EAST})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["current = ", "contexts = 3", "[contexts.a]\nport = 1", "\x00"])
def test_a_malformed_file_is_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "contexts.toml"
    path.write_text(text)
    with pytest.raises(ContextError, match="malformed"):
        load_contexts(path)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in ("APIDAE_URL", "APIDAE_TOKEN", "APIDAE_TOKEN_FILE", "APIDAE_CA_FILE", "APIDAE_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    app = typer.Typer()
    register(app)

    def call(*words: str, given: str = "") -> Result:
        return CliRunner().invoke(app, ["config", *words], input=given)

    return call


def test_contexts_are_made_used_shown_and_deleted(run, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret-1\n")
    assert (
        run("set-context", "east", "--url", "http://127.0.0.1:1", "--token-file", str(tmp_path / "token")).exit_code
        == 0
    )
    assert run("set-context", "west", "--url", "http://127.0.0.1:2", "--token-stdin", given="secret-2\n").exit_code == 0
    assert run("contexts", "-o", "name").stdout.split() == ["east", "west"]
    assert run("use", "west").stdout == "west: http://127.0.0.1:2\n"
    shown = run("show").stdout
    assert "http://127.0.0.1:2" in shown and "context west" in shown and "(set)" in shown
    assert "secret" not in shown + run("contexts", "-o", "wide").stdout
    assert run("set-context", "west", "--url", "http://127.0.0.1:3").exit_code == 0
    assert "(set)" not in run("show").stdout  # The token was of another collector.
    assert run("delete-context", "west").exit_code == 0
    assert run("show", "--context", "west").exit_code == 1
    assert "default" in run("show").stdout


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("use", "x"), "There is no context 'x' (none is set)"),
        (("set-context", "x"), "needs the address of a collector"),
        (("set-context", "x", "--url", "host"), "must begin with http:// or https://"),
        (("delete-context", "x"), "There is no context 'x'"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(run, words: tuple[str, ...], sentence: str) -> None:
    done = run(*words)
    assert (done.exit_code, sentence in done.stderr, done.stderr.count("\n")) == (1, True, 1)
