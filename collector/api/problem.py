"""Errors as RFC 9457 problem details: one sentence that names the thing, the value and the fix."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import Field
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from collector.api.base_model import Model
from collector.core.budget import OverTimeError, StoppedError, use_budget
from collector.core.errors import ConflictError, UnknownError
from collector.inventory.consumers.consumer import ConsumerError
from collector.inventory.query import CursorError, SpanError
from collector.inventory.templates.mapping import EditError
from collector.storage.base import RefusedStatementError, StoreError

MEDIA_TYPE = "application/problem+json"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
# Parameters by which a question gets cheaper, those first that help most.
NARROWING = ("since", "start", "service", "endpoint", "consumer", "address", "host", "node", "limit")
NARROWING_SHOWN_MAX = 3
# Of a request: its status, title and detail as a page.
RenderProblem = Callable[[Request, int, str, str], Response]
SHOWN_CHARACTERS_MAX = 80  # Of a refused value; the rest is the client's to know.

logger = logging.getLogger(__name__)

RouteT = TypeVar("RouteT", bound=Callable[..., Any])

TITLES: dict[int, str] = {
    400: "Bad request",
    401: "Not authenticated",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    408: "Request timeout",
    409: "Conflict",
    413: "Content too large",
    415: "Unsupported media type",
    421: "Misdirected request",
    422: "Unprocessable request",
    429: "Too many requests",
    500: "Internal error",
    503: "Unavailable",
}

# Errors of the product whose message is for the client.
_STATUSES: dict[type[Exception], int] = {
    ConflictError: 409,
    UnknownError: 404,
    **dict.fromkeys((EditError, ConsumerError, SpanError), 422),
}


class Problem(Exception):  # noqa: N818 - the RFC's word for it
    """A refusal with its status and its sentence; routes raise it."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})


class ProblemModel(Model):
    """RFC 9457 problem details."""

    type: str = Field(examples=["about:blank"])
    title: str = Field(examples=["Unprocessable request"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["The parameter 'limit' is '0'; use 1 or more."])


class ProblemResponse(JSONResponse):
    """One problem. A browser that asks for a page gets a page, where the application has `render_problem`."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        title = TITLES.get(status, "Error")
        content = {"type": "about:blank", "title": title, "status": status, "detail": detail}
        super().__init__(content, status_code=status, media_type=MEDIA_TYPE, headers=dict(headers or {}))
        self._words = title, detail
        self._own_headers = dict(headers or {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        render: RenderProblem | None = getattr(scope["app"].state, "render_problem", None) if "app" in scope else None
        if render is None or not asks_for_page(scope):
            await super().__call__(scope, receive, send)
            return
        with use_budget(None):  # What was asked for may have used it up; that is then what the page says.
            response = render(Request(scope, receive), self.status_code, *self._words)
        response.headers.update(self._own_headers)
        await response(scope, receive, send)


def asks_for_page(scope: Scope) -> bool:
    """Whether a person waits for the response: a browser, outside of the API."""
    path: str = scope["path"]
    return not path.startswith("/api/") and "text/html" in Headers(scope=scope).get("accept", "")


def problem_response(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """The response of one problem."""
    return ProblemResponse(status, detail, headers)


def internal_problem() -> Response:
    """The response where the mistake is ours; what it was is in the log, and nothing of it here."""
    return problem_response(500, "The collector failed to answer this; its log says why. Report it, please.")


def describe_validation(errors: Sequence[Mapping[str, Any]], known: Sequence[str]) -> str:
    """Sentences for pydantic's errors of one request; `known` are the parameters that exist."""
    return " ".join(_describe_error(error, known) for error in errors)


# What to use instead, by pydantic's type of error.
_FIXES = {
    **dict.fromkeys(("enum", "literal_error"), "one of {expected}"),
    "greater_than_equal": "{ge} or more",
    "greater_than": "more than {gt}",
    "less_than_equal": "{le} or less",
    **dict.fromkeys(("int_parsing", "int_type", "int_from_float", "int_parsing_size"), "a whole number"),
    "string_type": "text",
    "string_unicode": "text in UTF-8",
    "string_too_short": "{min_length} characters or more",
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    "tuple_type": "a list",
}


def _describe_error(error: Mapping[str, Any], known: Sequence[str]) -> str:
    """One sentence: the thing, the value, the fix."""
    location = [str(part) for part in error["loc"]]
    place = "field" if location and location[0] == "body" else "parameter"
    name = ".".join(location[1:]) or "body"
    value = show(error.get("input"))
    context = error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            return f"The {place} {show(name)} does not exist; use one of {', '.join(known)}."
        case "missing":
            return f"The {place} {name!r} is missing; send it."
        case "string_too_long":
            return f"The {place} {name!r} is too long; use at most {context['max_length']} characters."
        case "model_attributes_type" | "model_type" | "dict_type":
            return "The body is not an object; send one as application/json."
        case "json_invalid":
            return "The body is not JSON; send an object as application/json."
        case "value_error":
            return f"The {place} {name!r} is {value}; {context.get('error', error['msg'])}."
        case kind if kind in _FIXES:
            return f"The {place} {name!r} is {value}; use {_FIXES[kind].format(**context)}."
        case _:
            return f"The {place} {name!r} is {value}; {error['msg'][0].lower()}{error['msg'][1:]}."


def show(value: Any) -> str:
    """A client's value, quoted and cut."""
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS_MAX else f"{text[:SHOWN_CHARACTERS_MAX]}..."


def hide_input(route: RouteT) -> RouteT:
    """Marks a route whose body holds what no answer may repeat."""
    route.hides_input = True  # type: ignore[attr-defined]
    return route


def add_problem_handlers(app: FastAPI) -> None:
    """Make every error of an app a problem."""

    async def on_problem(_: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return problem_response(error.status, error.detail, error.headers)

    async def on_validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        if isinstance(error.body, bytes):  # Else it was read as JSON.
            kind = request.headers.get("content-type")
            named = f"is {show(kind)}" if kind else "names no media type"
            return problem_response(415, f"The body {named}; send JSON as application/json.")
        known = _known_parameters(request)
        if getattr(request.scope.get("endpoint"), "hides_input", False):
            fields = sorted({str(part["loc"][1]) for part in error.errors() if len(part["loc"]) > 1} & set(known))
            wrong = f"the field {' and '.join(map(repr, fields))}" if fields else "the body"
            return problem_response(
                422,
                f"Correct {wrong}: send {', '.join(known)} as application/json. What was sent is not repeated here.",
            )
        return problem_response(422, describe_validation(error.errors(), known))

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        path = show(request.scope["path"])
        if error.status_code == 405:
            allowed = list_methods(request)
            detail = f"{request.method} is not possible at {path}; use {' or '.join(allowed)}."
            return problem_response(405, detail, {"allow": ", ".join(allowed)})
        if error.status_code == 404:
            detail = f"There is nothing at {path}; see /api/v1/openapi.json for what there is."
            return problem_response(404, detail)
        if error.status_code == 400:  # FastAPI's, of a body that cannot be decoded or is nested too deeply.
            return problem_response(422, "The body is not JSON in UTF-8; send an object as application/json.")
        return problem_response(error.status_code, str(error.detail), error.headers)

    async def on_cursor(request: Request, error: Exception) -> Response:
        cursor = show(request.query_params.get("cursor"))
        return problem_response(422, f"The parameter 'cursor' is {cursor}, but {error}; start again without it.")

    async def on_refusal(_: Request, error: Exception) -> Response:
        status = next(status for kind, status in _STATUSES.items() if isinstance(error, kind))
        sentence = str(error).removesuffix(".")
        return problem_response(status, f"{sentence[:1].upper()}{sentence[1:]}.")

    async def on_over_time(request: Request, error: Exception) -> Response:
        logger.warning("%s %s was given up: %s", request.method, show(request.scope["path"]), error)
        known = _known_parameters(request)
        passed = {"start"} if "since" in known else set()  # Two ways to say the same.
        narrowing = [name for name in NARROWING if name in known and name not in passed][:NARROWING_SHOWN_MAX]
        advice = (
            f"narrow it with {' or '.join(narrowing)}" if narrowing else "try again when the collector is less busy"
        )
        return problem_response(503, f"{str(error).removesuffix('.')}, which is the limit; {advice}.")

    async def on_stopped(_: Request, error: Exception) -> Response:
        return problem_response(503, str(error), {"retry-after": "5"})

    async def on_store(request: Request, error: Exception) -> Response:
        assert isinstance(error, StoreError)
        logger.error("%s %s could not be answered: %s", request.method, show(request.scope["path"]), error)
        if isinstance(error, RefusedStatementError):
            return internal_problem()
        return problem_response(503, error.answer, {"retry-after": "5"})

    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(RequestValidationError, on_validation)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(CursorError, on_cursor)
    for kind in _STATUSES:
        app.add_exception_handler(kind, on_refusal)
    app.add_exception_handler(OverTimeError, on_over_time)
    app.add_exception_handler(StoppedError, on_stopped)
    app.add_exception_handler(StoreError, on_store)


def list_methods(request: Request) -> list[str]:
    """All methods that the path of a request can be asked with (RFC 9110 section 10.2.1)."""
    routes = request.app.router.routes
    asked = {"type": "http", "path": request.scope["path"], "root_path": "", "headers": []}
    return [
        method
        for method in METHODS
        if any(route.matches({**asked, "method": method})[0] is Match.FULL for route in routes)
    ]


def _known_parameters(request: Request) -> list[str]:
    """Names that the request's route takes: query parameters, or the fields of its body."""
    route = request.scope.get("route")
    operation = getattr(route, "name", "")
    schema = request.app.openapi()
    for methods in schema["paths"].values():
        found = methods.get(request.method.lower())
        if found and found.get("operationId") == operation:
            names = [parameter["name"] for parameter in found.get("parameters", ()) if parameter["in"] == "query"]
            return names or _body_fields(found, schema) or ["none: it takes no parameters"]
    return ["those in /api/v1/openapi.json"]


def _body_fields(operation: Mapping[str, Any], schema: Mapping[str, Any]) -> list[str]:
    """Fields of an operation's JSON body."""
    try:
        reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    except KeyError:
        return []
    return list(schema["components"]["schemas"][reference.rsplit("/", 1)[1]].get("properties", {}))
