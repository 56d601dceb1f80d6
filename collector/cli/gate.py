"""`apidae gate`: whether a pipeline may go on, by findings, by drift, and by what a changed description would break.

Exit: 0 where nothing is in the way, 3 where something is, 1 where the collector could not be asked, 2 for a wrong
option. What is in the way is printed, and written as SARIF 2.1.0 or JUnit XML for tools that show it beside the code.
"""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer

from collector.cli.client import Api, command, describe_columns, fail, say
from collector.cli.findings import Severity
from collector.core.moments import read_moment

SOMETHING_FOUND: Final = 3
WRONG_OPTION: Final = 2
GATE_COLUMNS: Final = describe_columns("rule severity service method/1 path what consumers/2 id/3")
_CONSUMERS_NAMED: Final = 5
# Of SARIF; there it is one of three.
_LEVELS: Final = {"critical": "error", "high": "error", "medium": "warning", "low": "note"}
_SARIF_SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"
# What GitHub sorts alerts by, as of CVSS.
_SECURITY_SEVERITIES: Final = {"critical": "9.5", "high": "8.0", "medium": "5.5", "low": "2.0"}


class Condition(StrEnum):
    """What closes the gate beside severities of findings."""

    DRIFT = "drift"
    SHADOW = "shadow"
    ZOMBIE = "zombie"
    BREAKING = "breaking"


CONDITIONS: Final = (*(one.value for one in Severity), *(one.value for one in Condition))


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """One thing in the way. `id` is the same at each run; `file`: of the description that a break is in."""

    id: str
    condition: str  # Of `CONDITIONS`.
    rule: str
    title: str
    severity: str
    service: str
    method: str
    path: str
    what: str
    file: str = ""
    consumers: tuple[str, ...] = field(default=())


def register_gate(app: typer.Typer) -> None:
    """Add the command."""

    @command(app, "gate")
    def gate(
        api: Api,
        fail_on: Annotated[
            str,
            typer.Option(
                metavar="WORDS",
                help=f"What closes the gate, with commas: {', '.join(CONDITIONS)}. A severity is of open findings and "
                "means it or worse.",
            ),
        ] = "critical",
        description: Annotated[
            Path | None,
            typer.Option(help="A changed OpenAPI file: what it would break of current calls closes the gate too."),
        ] = None,
        name: Annotated[
            str, typer.Option(help="Of the description that --description replaces; default: its title.")
        ] = "",
        service: Annotated[str, typer.Option(help="Only of this service, as listed, with or without its port.")] = "",
        namespace: Annotated[str, typer.Option(help="Only findings in this namespace of Kubernetes.")] = "",
        since: Annotated[
            str, typer.Option(metavar="TIME", help="Only findings first seen since then, as 7d or 2026-10-01.")
        ] = "",
        calls_since: Annotated[
            str, typer.Option("--calls-since", metavar="SPAN", help="With --description: how far back calls count.")
        ] = "30d",
        sarif: Annotated[Path | None, typer.Option(help="Write what was found as SARIF 2.1.0.")] = None,
        junit: Annotated[Path | None, typer.Option(help="Write what was found as JUnit XML.")] = None,
    ) -> None:
        """Say whether a pipeline may go on: exit 0, or 3 where something is in the way."""
        conditions = read_conditions(fail_on)
        if description is not None and Condition.BREAKING not in conditions:
            conditions = (*conditions, Condition.BREAKING.value)
        if description is None and Condition.BREAKING in conditions:
            raise _refuse("--fail-on breaking needs the changed file; name it by --description.")
        found = [
            *_list_findings(api, conditions, service=service, namespace=namespace, since=since),
            *_list_differences(api, conditions, service),
        ]
        if description is not None:
            found += _list_breaks(api, description, name=name, service=service, since=calls_since)
        if sarif is not None:
            _write(sarif, json.dumps(make_sarif(found, api.url), indent=2) + "\n")
        if junit is not None:
            _write(junit, make_junit(found, conditions))
        if found or not api.output.is_table:
            api.print_items([{**asdict(one), "consumers": ", ".join(one.consumers)} for one in found], GATE_COLUMNS)
        say(f"Gate {'closed' if found else 'open'}: {len(found)} in the way by {', '.join(conditions)}.", err=True)
        if found:
            raise typer.Exit(SOMETHING_FOUND)


def read_conditions(words: str) -> tuple[str, ...]:
    """As given, each once. Raises typer.Exit."""
    found = tuple(dict.fromkeys(word.strip() for word in words.split(",") if word.strip()))
    unknown = [word for word in found if word not in CONDITIONS]
    if unknown or not found:
        raise _refuse(f"--fail-on has {', '.join(map(repr, unknown)) or 'no word'}; use {', '.join(CONDITIONS)}.")
    return found


def _refuse(sentence: str) -> typer.Exit:
    """A wrong option: not what the collector says, nor that it says nothing."""
    say(sentence, err=True)
    return typer.Exit(WRONG_OPTION)


def _list_findings(
    api: Api, conditions: Sequence[str], *, service: str, namespace: str, since: str
) -> Iterator[Obstacle]:
    order = [one.value for one in Severity]
    chosen = [order.index(one) for one in conditions if one in order]
    first = _read_time(since) if since else 0
    for severity in order[: max(chosen, default=-1) + 1]:
        asked = {"state": "open", "severity": severity, "service": service, "namespace": namespace, "limit": "500"}
        for page in api.fetch_pages("findings", asked):
            for one in page["items"]:
                if first and read_moment(one["first_seen"], 0.0) < first:
                    continue
                yield Obstacle(
                    id=one["id"],
                    condition=severity,
                    rule=one["rule"],
                    title=one["title"],
                    severity=severity,
                    service=one["service"],
                    method=one["method"],
                    path=one["url_template"],
                    what=one["why"],
                )


def _read_time(text: str) -> int:
    try:
        return read_moment(text, time.time())
    except ValueError as error:
        raise _refuse(f"--since is {text!r}: {error}.") from None


def _list_differences(api: Api, conditions: Sequence[str], service: str) -> Iterator[Obstacle]:
    """Of all descriptions in force, from what is called."""
    if not {Condition.DRIFT, Condition.SHADOW, Condition.ZOMBIE} & set(conditions):
        return
    for spec in api.fetch("specs")["items"]:
        if not spec["is_in_force"]:
            continue
        report = api.fetch(f"specs/{quote(spec['name'], safe='')}/report")
        for status in (Condition.SHADOW, Condition.ZOMBIE):
            for one in report[status] if status in conditions else ():
                what = one["spec"]["reason"]
                yield from _keep(service, one, status, f"{status}_endpoint", f"A {status} endpoint is called", what)
        for one in (*report["documented"], *report["zombie"]) if Condition.DRIFT in conditions else ():
            for drift in one["drift"]:
                rule = f"drift_{drift['kind']}"
                title = "Calls differ from the API description: " + drift["kind"].replace("_", " ")
                place = f"{drift['place']} {drift['name']}"
                yield from _keep(service, one, Condition.DRIFT, rule, title, drift["sentence"], place)


def _keep(
    service: str, one: dict[str, Any], condition: Condition, rule: str, title: str, what: str, place: str = ""
) -> Iterator[Obstacle]:
    """Where it is of the service that is asked for."""
    if service and one["service"] != service and not one["service"].startswith(f"{service}:"):
        return
    yield Obstacle(
        id="/".join(filter(None, (one["id"], rule, place))),
        condition=condition.value,
        rule=rule,
        title=title,
        severity=Severity.LOW.value,
        service=one["service"],
        method=one["method"],
        path=one["template"],
        what=what,
    )


def _list_breaks(api: Api, file: Path, *, name: str, service: str, since: str) -> list[Obstacle]:
    try:
        document = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise fail(f"The description {file} cannot be read ({error}); correct --description.") from None
    asked = {"document": document, "name": name, "service": service, "since": since}
    answer = api.act("specs/compare", asked)
    replaced = answer["replaced"]
    against = f"version {replaced or 'without a number'} in force" if replaced is not None else "calls alone"
    say(f"{file}: {answer['endpoints']} called endpoints compared with {against}, {answer['total']} broken.", err=True)
    found = []
    for one in answer["broken"]:
        callers = one["consumers"]
        names = tuple(caller["label"] or caller["id"] for caller in callers["items"])
        for broken in one["breaks"]:
            rule = f"breaking_{broken['kind']}"
            found.append(
                Obstacle(
                    id="/".join(filter(None, (one["id"], rule, f"{broken['place']} {broken['name']}".strip()))),
                    condition=Condition.BREAKING.value,
                    rule=rule,
                    title="The change breaks current calls: " + broken["kind"].replace("_", " "),
                    severity=Severity.HIGH.value,
                    service=one["service"],
                    method=one["method"],
                    path=one["template"],
                    what=f"{broken['sentence']} {_name_callers(names, callers['total'])}",
                    file=str(file),
                    consumers=names,
                )
            )
    return found


def _name_callers(names: Sequence[str], total: int) -> str:
    named = ", ".join(names[:_CONSUMERS_NAMED])
    more = total - min(len(names), _CONSUMERS_NAMED)
    return f"Called by {named}{f' and {more:,} more' if more > 0 else ''}."


def make_sarif(found: Sequence[Obstacle], address: str) -> dict[str, Any]:
    """A SARIF 2.1.0 log with one run. A break is in its file; all else in a file that is named like the service, for
    services that show results ask for one. Rules link to their pages on the collector at `address`."""
    from importlib.metadata import version

    rules = {one.rule: one for one in found}
    order = {rule: number for number, rule in enumerate(rules)}
    return {
        "$schema": _SARIF_SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "Apidae",
                        "semanticVersion": version("apidae"),
                        "rules": [
                            {
                                "id": one.rule,
                                "shortDescription": {"text": one.title},
                                "helpUri": address.rstrip("/") + _find_help(one),
                                "defaultConfiguration": {"level": _LEVELS[one.severity]},
                                "properties": {
                                    "tags": ["security", "api"],
                                    "security-severity": _SECURITY_SEVERITIES[one.severity],
                                },
                            }
                            for one in rules.values()
                        ],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "results": [
                    {
                        "ruleId": one.rule,
                        "ruleIndex": order[one.rule],
                        "level": _LEVELS[one.severity],
                        "message": {"text": f"{_name_place(one)}: {one.what}"},
                        "locations": [
                            {
                                "physicalLocation": {
                                    "artifactLocation": {"uri": quote(one.file or f"services/{one.service}")},
                                    "region": {"startLine": 1},
                                },
                                "logicalLocations": [{"fullyQualifiedName": _name_place(one), "kind": "resource"}],
                            }
                        ],
                        "partialFingerprints": {"apidae/v1": one.id},
                    }
                    for one in found
                ],
            }
        ],
    }


def _find_help(one: Obstacle) -> str:
    """The path of the page that explains it: of findings that of the rule."""
    is_of_spec = one.condition in (Condition.DRIFT, Condition.BREAKING)
    return f"/docs/{'use/specs' if is_of_spec else f'findings/{one.rule}'}"


def _name_place(one: Obstacle) -> str:
    return " ".join(filter(None, (one.service, one.method, one.path)))


def make_junit(found: Sequence[Obstacle], conditions: Sequence[str]) -> str:
    """One suite a condition: a failed case for each that is in the way, or one case that passed."""
    import xml.etree.ElementTree as ET  # Written only.

    top = ET.Element("testsuites", name="apidae gate", tests="0", failures=str(len(found)))
    cases = 0
    for condition in dict.fromkeys((*conditions, *(one.condition for one in found))):
        mine = [one for one in found if one.condition == condition]
        suite = ET.SubElement(
            top, "testsuite", name=f"apidae {condition}", tests=str(max(1, len(mine))), failures=str(len(mine))
        )
        cases += max(1, len(mine))
        if not mine:
            ET.SubElement(suite, "testcase", classname=f"apidae.{condition}", name="nothing found")
        for one in mine:
            name = f"{one.rule}: {_clean(' '.join(filter(None, (one.method, one.path))) or one.service)}"
            case = ET.SubElement(suite, "testcase", classname=_clean(one.service), name=name)
            failure = ET.SubElement(case, "failure", type=one.rule, message=_clean(one.title))
            failure.text = _clean(f"{one.severity}: {_name_place(one)}\n{one.what}\n{one.id}")
    top.set("tests", str(cases))
    ET.indent(top)
    return ET.tostring(top, encoding="unicode", xml_declaration=True) + "\n"


def _clean(text: str) -> str:
    """Without what XML 1.0 does not allow; names are made by others."""
    return "".join(
        letter if letter in "\n\t" or letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as error:
        raise fail(f"The file {path} cannot be written ({error.strerror}); name another.") from None
