"""API descriptions: the list, an upload, and one description beside what is seen."""

from contextlib import suppress
from email.parser import BytesParser
from email.policy import HTTP
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse

from collector.api.parameters import name_actor
from collector.api.problem import Problem
from collector.api.services import Services
from collector.core.budget import OverTimeError
from collector.core.errors import ConflictError
from collector.core.scope import find_scope
from collector.specs.document import SpecError
from collector.ui.components.rendering import read_form
from collector.ui.site import Page, Site

PATH = "/specs"
FIELDS_MAX = 20


async def read_multipart(request: Request) -> dict[str, str]:
    """The fields of a form with files, as texts; the last of a name counts. Raises a 422 problem where it is no such
    form or holds no text."""
    kind = request.headers.get("content-type", "")
    head = f"Content-Type: {kind}\r\nMIME-Version: 1.0\r\n\r\n".encode("latin-1", "replace")
    message = BytesParser(policy=HTTP).parsebytes(head + await request.body())
    fields: dict[str, str] = {}
    for part in list(message.iter_parts())[:FIELDS_MAX] if message.is_multipart() else ():
        content = part.get_payload(decode=True)
        name = part.get_param("name", header="content-disposition")
        if isinstance(content, bytes) and isinstance(name, str):
            try:
                fields[name] = content.decode("utf-8-sig")
            except UnicodeDecodeError:
                raise Problem(422, f"The field {name[:80]!r} is no text; send JSON or YAML in UTF-8.") from None
    if not fields:
        raise Problem(422, "The form holds no field; choose a file and send it again.")
    return fields


def _upload(services: Services, fields: dict[str, str]) -> str:
    """The name of the description. Raises SpecError, ConflictError, OverTimeError."""
    name = fields.get("name", "").strip()
    spec = services.spec_table.upload(
        name=name,
        document=fields.get("document", ""),
        service=fields.get("service", "").strip(),
        source="page",
        by=name_actor(),
    )
    with suppress(OverTimeError):  # It is stored, and housekeeping goes on with it.
        services.spec_assessor.look()
    return name or spec.title


def add_routes(router: APIRouter, site: Site) -> None:
    """Its routes."""
    services = site.services

    def show(request: Request, complaint: str = "") -> Response:
        results = services.spec_assessor.results
        rows = [(one, results.get(one.name)) for one in services.spec_reporter.list_specs()]
        values = {
            "rows": rows,
            "file_errors": services.spec_assessor.file_errors if find_scope().is_all else {},
            "traffic_errors": services.spec_assessor.traffic_errors if find_scope().is_all else {},
            "served": services.spec_reporter.list_served(),
            "complaint": complaint,
        }
        return site.render(request, "specs/list.html", values, status=422 if complaint else 200)

    @router.get(PATH)
    def show_specs(request: Request) -> Response:
        return show(request)

    @router.post(PATH)
    async def upload(request: Request) -> Response:
        fields = await read_multipart(request)
        try:
            name = await run_in_threadpool(_upload, services, fields)
        except (SpecError, ConflictError) as error:
            return await run_in_threadpool(show, request, str(error))
        except OverTimeError:
            complaint = "The document took too long to read; send it as JSON, or split it."
            return await run_in_threadpool(show, request, complaint)
        return RedirectResponse(f"{PATH}/{quote(name)}", status_code=303)

    @router.post(PATH + "-removed")
    async def remove(request: Request) -> Response:
        name = (await read_form(request)).get("name", "")
        if not await run_in_threadpool(services.spec_table.delete, name, by=name_actor()):
            raise Problem(404, f"There is no description {name[:80]!r}; go back and reload.")
        with suppress(OverTimeError):
            await run_in_threadpool(services.spec_assessor.look)
        return RedirectResponse(PATH, status_code=303)

    @router.get(PATH + "/{name:path}")
    def show_spec(request: Request, name: str) -> Response:
        report = services.spec_reporter.report(name)
        spec = next((one for one in services.spec_reporter.list_specs() if one.name == name), None)
        if report is None or spec is None:
            raise Problem(404, f"There is no description {name[:80]!r}; go back and reload.")
        drifting = sorted(report.documented, key=lambda one: (-len(one.drift), one.template, one.method))
        result = services.spec_assessor.results.get(name)
        values = {"spec": spec, "report": report, "drifting": drifting, "fit": result.reason if result else ""}
        values["differences"] = sum(len(one.drift) for one in report.documented)
        return site.render(request, "specs/spec.html", values)


PAGE = Page(add_routes=add_routes, path=PATH, title="Descriptions", group="Inventory", key="p")
