"""The command: lines on standard output, the account and one sentence on standard error."""

import gzip
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from sensor.capture.files.capture_file import CaptureFile
from sensor.cli import replay as command
from tests.sensor.capture.files.packets import Talk, write_pcap

GET = b"GET /v1/orders/7 HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(command.replay)
    return app


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    talk = Talk().open().ask(GET).answer(OK).ask(GET).answer(OK).close()
    return write_pcap(tmp_path / "x.pcap", talk.packets)


def test_lines_and_account(app: typer.Typer, capture: Path) -> None:
    result = CliRunner().invoke(app, [str(capture)])
    assert result.exit_code == 0
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["url.template"] for line in lines] == ["/v1/orders/{integer}"] * 2
    assert not any("url.path" in line for line in lines)
    assert result.stderr == "9 packets, 9 TCP segments, 1 connection, 1 of them HTTP, 2 calls\n"


def test_raw_and_gzip(app: typer.Typer, capture: Path) -> None:
    packed = capture.with_suffix(".gz")
    packed.write_bytes(gzip.compress(capture.read_bytes()))
    result = CliRunner().invoke(app, ["--raw", "--port", "80", str(packed)])
    assert [json.loads(line)["url.path"] for line in result.stdout.splitlines()] == ["/v1/orders/7"] * 2


def test_a_file_that_ends_early_is_told(app: typer.Typer, capture: Path) -> None:
    capture.write_bytes(capture.read_bytes()[:-1])
    result = CliRunner().invoke(app, [str(capture)])
    assert result.exit_code == 0
    assert "the file ends within a packet: what follows is missing" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["/nowhere"], 1, "apidae: cannot read /nowhere: No such file or directory; name a pcap or pcapng file\n"),
        ([__file__], 1, "is no capture: it starts with 22222254; give a pcap or pcapng file, plain or gzipped\n"),
        (["/"], 1, "apidae: cannot read /: Is a directory; name a pcap or pcapng file\n"),
        (["--port", "0", "x"], 2, "0 is no TCP port; give 1 to 65535"),
        (["--report", "out.pdf", "x"], 2, "out.pdf ends in neither .html nor .json"),
        (["--raw", "--report", "out.html", "x"], 2, "a report has no fields of the wire"),
    ],
)
def test_bad_input_is_one_sentence(app: typer.Typer, arguments: list[str], code: int, said: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert said in result.stderr


def test_a_report_without_the_collector_names_the_extra(
    app: typer.Typer, capture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Missing:
        def load(self) -> None:
            raise ModuleNotFoundError("No module named 'chdb'", name="chdb")

    for found in ([], [Missing()]):
        monkeypatch.setattr(command, "entry_points", lambda group, found=found: found)
        result = CliRunner().invoke(app, [str(capture), "--report", str(capture.with_suffix(".html"))])
        assert (result.exit_code, result.stdout) == (1, "")
        assert (
            "`--report` needs the collector, which is not installed; pip install 'apidae[collector]'" in result.stderr
        )
    assert not capture.with_suffix(".html").exists()


def test_who_reads_may_stop(capture: Path) -> None:
    """`apidae replay FILE | head -1`: no traceback."""
    program = "import typer; from sensor.cli.replay import replay; typer.run(replay)"
    many = capture.with_name("many.pcap")
    talk = Talk().open()
    for _ in range(2_000):
        talk.ask(GET).answer(OK)
    write_pcap(many, talk.packets)
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(many)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline().startswith(b"{")
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(timeout=60) == 0
    process.stderr.close()


def test_large_files_show_a_bar_on_a_terminal(app: typer.Typer, capture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(command, "PROGRESS_FROM_BYTES", 1)
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    file = CaptureFile(capture)
    with command.ExitStack() as stack:
        stack.callback(file.close)
        assert len(list(command._show_progress(file, stack))) == 9
    assert "replay" in sys.stderr.getvalue()
