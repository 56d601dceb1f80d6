"""Writes the report of a capture as one HTML page or as JSON. EDGE: writes a file.

The page needs nothing but itself: its style is in it, and there is no script. The text is the same for the same file,
so it has no time of its making.
"""

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from collector.alerting.wording import format_minute
from collector.capture_report.content import CaptureReport, ReportedFinding, build_report
from collector.capture_report.installation import feed_capture
from collector.risk.finding import Severity as FindingSeverity
from collector.server.failures import first_line
from collector.storage.base import StoreError
from collector.ui.components import wording
from collector.ui.components.rendering import mark_code, mark_time
from common.capture_report import CaptureReportError, CaptureSource

_GRAVE: Final = (FindingSeverity.CRITICAL.value, FindingSeverity.HIGH.value)
_NS: Final = 1_000_000_000
_STYLES: Final = {"critical": "bad", "high": "bad", "medium": "warn", "low": ""}


def make_report(source: CaptureSource) -> CaptureReport:
    """The report of a capture, by a collector in a temporary directory. Raises CaptureReportError."""
    with _make_directory() as directory:
        installation = feed_capture(Path(directory) / "collector", source)
        try:
            return build_report(installation.build_services(), source.count(), version("apidae"))
        except StoreError as error:
            raise CaptureReportError(f"The report could not be made: {first_line(error)}") from error
        finally:
            installation.close()


@contextmanager
def _make_directory() -> Iterator[str]:
    """A temporary directory for everything, what the engine writes by itself included. Raises CaptureReportError."""
    before = os.environ.get("TMPDIR")
    try:
        made = tempfile.TemporaryDirectory(prefix="apidae-report-")
    except OSError as error:
        raise CaptureReportError(f"no temporary directory can be made: {error.strerror}; set TMPDIR") from error
    with made as directory:
        os.environ["TMPDIR"] = directory  # Read by the engine when it starts.
        try:
            yield directory
        finally:
            if before is None:
                del os.environ["TMPDIR"]
            else:
                os.environ["TMPDIR"] = before


def write_report(source: CaptureSource, target: Path) -> None:
    """Write the report of a capture to a file. Raises CaptureReportError, and where it can, before it reads."""
    if not os.access(target if target.exists() else target.parent, os.W_OK) or target.is_dir():
        raise CaptureReportError(f"{target} cannot be written; name a file in a directory where you may write")
    report = make_report(source)
    text = render_json(report) if target.suffix == ".json" else render_page(report)
    try:
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CaptureReportError(f"cannot write {target}: {error.strerror}; name another file") from error


def render_json(report: CaptureReport) -> str:
    """Everything that the page shows, with names in the order of `CaptureReport`."""
    return json.dumps(asdict(report), indent=1, ensure_ascii=False) + "\n"


def render_page(report: CaptureReport) -> str:
    """One self-contained page."""
    templates = Environment(
        loader=PackageLoader("collector", "capture_report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_show,
    )
    templates.filters.update(
        number=lambda number: f"{number:,}",
        milliseconds=wording.word_milliseconds,
        percent=wording.word_percent,
        size=wording.word_size,
        at=mark_time,
        prose=mark_code,
        protocol_name=wording.word_protocol,
        data_kind=wording.word_data_kind,
        credential=lambda kind: wording.LABELS.get(kind, kind.replace("_", " ")),
        words=lambda text: text.replace("_", " "),
        style=lambda severity: _STYLES.get(severity, ""),
    )
    template = templates.get_template("page.html")
    return template.render(
        report=report,
        account=report.account,
        sentence=summarize(report),
        span=_name_span(report),
        groups=_group_findings(report.findings),
        has_data=any(endpoint.data for _, endpoint in report.endpoints),
    )


def summarize(report: CaptureReport) -> str:
    """The report in one sentence."""
    account = report.account
    if not account.calls:
        return f"No HTTP call could be read in {account.file_name}."
    grave = sum(one.severity in _GRAVE for one in report.findings)
    findings = _count(len(report.findings), "finding")
    findings += f" ({grave:,} of them high or critical)" if grave else ""
    endpoints = _count(len(report.endpoints), "endpoint")
    services = _count(len(report.services), "service")
    alerts = _count(len(report.alerts), "alert")
    calls = _count(account.calls, "call")
    return f"{calls} to {endpoints} of {services} led to {findings} and {alerts}."


def _group_findings(findings: Sequence[ReportedFinding]) -> list[list[ReportedFinding]]:
    """Those of one rule and severity together, in their order."""
    groups: dict[tuple[str, str], list[ReportedFinding]] = {}
    for one in findings:
        groups.setdefault((one.severity, one.rule), []).append(one)
    return list(groups.values())


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _name_span(report: CaptureReport) -> str:
    account = report.account
    first, last = account.first_unix_ns / _NS, account.last_unix_ns / _NS
    if not account.first_unix_ns:
        return ""
    return f"{format_minute(first)}, {wording.word_span(last - first)} long"


def _show(value: Any) -> Any:
    """What an expression prints: texts whose every character shows."""
    return wording.show_text(value) if type(value) is str else value
